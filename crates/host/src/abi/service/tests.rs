//! Services of every ABI, and what a call that does not end may use.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hostel_app::limits::Limits;

use super::*;
use crate::p1::tests::guests::{crowd, talk};
use crate::p1::tests::{connect, listener, rest, service_with, start, start_at};
use crate::testing::{self, block_on};
use crate::{Role, Runtime};

/// An address that nobody else has; whoever takes it first keeps it.
fn free_address() -> SocketAddr {
    listener().1
}

/// Loads a guest that may listen there and is told so.
fn listening(runtime: &Runtime, name: &str, address: SocketAddr) -> Guest {
    service_with(runtime, name, &[&address.to_string()], |component| {
        component.grants.listen.push(address.into());
    })
}

async fn is_open(address: SocketAddr) -> bool {
    for _ in 0..600 {
        if connect(address).is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[test]
fn components_of_both_generations_accept_a_thousand_connections() {
    let runtime = testing::runtime(None);
    for name in ["serve-std-p2", "serve-p3"] {
        let address = free_address();
        let guest = listening(&runtime, name, address);
        block_on(async {
            let service = start(&guest, Vec::new());
            assert!(is_open(address).await, "{name}");
            crowd(address, None).await;
            assert!(!service.end.is_finished(), "{name} still serves");
            service.end.abort();
        });
    }
}

#[test]
fn a_component_that_was_not_granted_an_address_cannot_listen_there() {
    let runtime = testing::runtime(None);
    let (granted, other) = (free_address(), free_address());
    for name in ["serve-std-p2", "serve-p3"] {
        let guest = service_with(&runtime, name, &[&other.to_string()], |component| {
            component.grants.listen.push(granted.into());
        });
        block_on(async {
            let ended = start(&guest, Vec::new()).ended().await;
            assert_eq!(ended, Ok(1), "{name}");
            assert!(connect(other).is_err(), "{name}");
        });
    }
}

#[test]
fn standard_input_is_empty_and_ends_when_the_service_is_to_end() {
    let runtime = testing::runtime(None);
    for name in ["run-stdin-p1", "run-stdin-p2", "serve-p3"] {
        let address = free_address();
        let guest = listening(&runtime, name, address);
        block_on(async {
            let service = start(&guest, Vec::new());
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!service.end.is_finished(), "{name} waits");
            service.stop.send(true).unwrap();
            assert_eq!(service.ended().await, Ok(0), "{name}");
        });
    }
}

#[test]
fn a_service_that_is_dropped_is_gone() {
    let runtime = testing::runtime(None);
    let text = "(module (func (export \"_start\") (loop (br 0))))";
    let component = testing::component(text.as_bytes());
    let guest = testing::load(&runtime, &component, text.as_bytes(), Role::Service).unwrap();
    block_on(async {
        let service = start(&guest, Vec::new());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!service.end.is_finished(), "no deadline ends it");
        service.end.abort();
        let begin = Instant::now();
        while guest.0.lanes.jobs() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(30), "it runs on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_service_has_the_budget_of_a_call_anew_in_every_period() {
    let limits = Limits {
        outbound: Some(3),
        store_calls: Some(3),
        host_bytes: 3,
        ..Limits::default()
    };
    let runtime = testing::runtime(None);
    let text = "(module (func (export \"_start\")))";
    let mut component = testing::component(text.as_bytes());
    component.limits = limits;
    component.grants.tcp.push("127.0.0.1:1".parse().unwrap());
    component.grants.keyvalue.insert("default".into());
    let guest = testing::load(&runtime, &component, text.as_bytes(), Role::Service).unwrap();
    let (_stop, stop) = watch::channel(false);
    let life = Life {
        refill: Duration::from_millis(100),
        ..Life::new(ServiceStart {
            listeners: Vec::new(),
            export: None,
            stop,
            ready: Box::new(|| {}),
            ready_line: None,
            cpu_percent: None,
        })
    };
    let template = |life| {
        Arc::new(Template {
            life,
            ..guest.0.template.as_ref().clone()
        })
    };
    type Use = fn(&mut Host) -> bool;
    let uses: [(&str, Use); 3] = [
        ("outgoing", |host| host.outgoing().start()),
        ("stores", |host| host.charge().call(0).is_ok()),
        ("kept", |host| host.meter.keep(1).is_ok()),
    ];
    for (what, take) in uses {
        let store = |life| Host::store(&guest.0.engine, &template(life), RequestId(0)).unwrap();
        let mut service = store(Some(life.clone()));
        let mut call = store(None);
        let (service, call) = (service.data_mut(), call.data_mut());
        for period in 0..3 {
            let used = (0..1000).take_while(|_| take(service)).count();
            assert!(
                (3..1000).contains(&(used + usize::from(period > 0))),
                "{what}: {used}"
            );
            let begin = Instant::now();
            while !take(service) {
                assert!(
                    begin.elapsed() < Duration::from_secs(30),
                    "{what} is not renewed"
                );
                rest();
            }
        }
        assert_eq!((0..1000).take_while(|_| take(call)).count(), 3, "{what}");
        assert!(!take(call), "{what}: a call has it once");
    }
}

/// `init` as original modules have it: the path of a configuration, and the number of a socket. It exits with that number
/// if the path has ten bytes; `add` returns at once.
const ORIGINAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 256))
    (func (export "init") (param i32 i32 i32)
        (if (i32.eq (local.get 1) (i32.const 10)) (then (call $exit (local.get 2)))))
    (func (export "config") (param i32 i32)
        (call $exit (i32.load8_u (local.get 0))))
    (func (export "number") (param i32) (call $exit (local.get 0)))
    (func (export "nothing")))"#;

#[test]
fn an_export_by_name_is_called_with_the_component_s_arguments_and_the_socket() {
    let runtime = testing::runtime(None);
    let load = |args: &[&str]| {
        let mut component = testing::component(ORIGINAL.as_bytes());
        component.args = args.iter().map(|text| (*text).into()).collect();
        testing::load(&runtime, &component, ORIGINAL.as_bytes(), Role::Service).unwrap()
    };
    block_on(async {
        let cases: [(&str, &[&str], usize, u8); 6] = [
            ("init", &["1234567890"], 1, 3),
            ("config", &["path"], 0, b'p'),
            ("config", &["path"], 1, b'p'),
            ("number", &["42"], 0, 42),
            ("number", &[], 1, 3),
            ("nothing", &[], 0, 0),
        ];
        for (export, args, sockets, expected) in cases {
            let guest = load(args);
            let listeners = (0..sockets).map(|_| listener().0).collect();
            assert_eq!(guest.check_service(Some(export), sockets), Ok(()));
            let ended = start_at(&guest, listeners, Some(export)).ended().await;
            assert_eq!(ended, Ok(expected), "{export} {args:?}");
        }
    });
    let refused =
        |export: Option<&str>, args: &[&str]| load(args).check_service(export, 0).unwrap_err();
    assert_eq!(load(&[]).check_service(None, 1), Ok(()));
    assert!(refused(Some("inti"), &[]).to_string().contains("init"));
    let too_few = refused(Some("init"), &["one"]);
    assert!(too_few.what.contains("too few"), "{too_few}");
}

#[test]
fn what_serves_requests_is_no_service() {
    let runtime = testing::runtime(None);
    let text = "(module (func (export \"other\")))";
    let component = testing::component(text.as_bytes());
    let other = testing::load(&runtime, &component, text.as_bytes(), Role::Service).unwrap();
    let refused = other.check_service(None, 0).unwrap_err();
    assert!(refused.what.contains("no program that could"), "{refused}");
    assert_eq!(other.check_service(Some("other"), 0), Ok(()));
    let guest = service_with(&runtime, "hello-p2", &[], |_| {});
    let refused = guest.check_service(None, 0).unwrap_err();
    assert!(refused.help.contains("export ="), "{refused}");
    let ended = block_on(async { start(&guest, Vec::new()).ended().await });
    assert!(matches!(ended, Err(Fault::BadGuest(_))), "{ended:?}");
}

#[test]
fn a_thousand_clients_of_one_address_do_not_hold_up_another() {
    let runtime = testing::runtime(None);
    let guest = service_with(&runtime, "serve-raw-p1", &["3"], |_| {});
    block_on(async {
        let (first, busy) = listener();
        let (second, quiet) = listener();
        let services = [start(&guest, vec![first]), start(&guest, vec![second])];
        let quiet = async {
            for number in 0..20 {
                let text = format!("number {number}");
                assert_eq!(talk(quiet, text.clone()).await, text);
            }
        };
        tokio::join!(crowd(busy, None), quiet);
        services.into_iter().for_each(|service| service.end.abort());
    });
}
