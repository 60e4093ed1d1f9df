//! Single calls: what each returns for which kind of descriptor, as the standard has it, and calls at random.

use std::io::Write;
use std::net::TcpStream;

use super::*;
use crate::net::Accepted;
use crate::p1::descriptors::{Descriptor, Descriptors};
use crate::p1::{calls, file, poll};
use crate::state::{Host, Template};
use crate::testing::block_on;

/// Every function that the modules below call, with its parameters.
const FUNCTIONS: &[(&str, &str)] = &[
    ("fd_close", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_sync", "i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("sock_accept", "i32 i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// A module that exits with what `body` leaves. At 0 there is a buffer of four bytes at 8, at 100 the name `page.txt`.
fn module(body: &str) -> String {
    let imports: String = FUNCTIONS
        .iter()
        .map(|(name, params)| {
            format!(
                "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))\n"
            )
        })
        .collect();
    format!(
        "(module {imports}
         (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
         (memory (export \"memory\") 1)
         (data (i32.const 0) \"\\08\\00\\00\\00\\04\\00\\00\\00wasm\")
         (data (i32.const 100) \"page.txt\")
         (func $subscribe (param $at i32) (param $kind i32) (param $fd i32)
           (i64.store (local.get $at) (i64.const 7))
           (i32.store8 offset=8 (local.get $at) (local.get $kind))
           (i32.store offset=16 (local.get $at) (local.get $fd)))
         (func (export \"_start\") (call $exit {body})))"
    )
}

/// A call, its arguments as numbers.
fn call(name: &str, args: &[i64]) -> String {
    let (_, params) = FUNCTIONS
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("{name}"));
    let args: String = params
        .split(' ')
        .zip(args)
        .map(|(kind, value)| format!(" ({kind}.const {value})"))
        .collect();
    format!("(call ${name}{args})")
}

/// The calls one after the other; the last one's result remains.
fn after(first: &[String], last: &str) -> String {
    let first: String = first.iter().map(|call| format!("(drop {call})")).collect();
    format!("(block (result i32) {first} {last})")
}

/// Loads a text as a service that may use `folder`, which it finds at descriptor 3.
fn load(runtime: &Runtime, folder: &Path, text: &str) -> Guest {
    let mut component = testing::component(text.as_bytes());
    with_folder(&mut component, folder);
    testing::load(runtime, &component, text.as_bytes(), Role::Service).unwrap()
}

/// What the body leaves, with a directory at 3 and a listening socket at 4.
async fn outcome(runtime: &Runtime, folder: &Path, body: &str) -> u8 {
    let (listener, address) = listener();
    outcome_with(runtime, folder, body, (listener, address), |client| client).await
}

/// The same with what a client does that is connected before.
async fn outcome_with<T>(
    runtime: &Runtime,
    folder: &Path,
    body: &str,
    (listener, address): (Arc<TcpListener>, SocketAddr),
    client: impl FnOnce(TcpStream) -> T,
) -> u8 {
    let guest = load(runtime, folder, &module(body));
    let connection = TcpStream::connect(address).unwrap();
    let _stays = client(connection);
    let ended = start(&guest, vec![listener]).ended().await;
    ended.unwrap_or_else(|fault| panic!("{body}: {fault:?}"))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.txt"), "text").unwrap();
    folder
}

#[test]
fn a_socket_a_file_and_nothing_have_the_errors_of_the_standard() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let (badf, fault, inval, notconn, notdir) = (8, 21, 28, 53, 54);
    let (notsock, notsup, spipe) = (57, 58, 70);
    let cases: &[(&str, &[i64], u8)] = &[
        ("sock_accept", &[5, 0, 64], badf),
        ("sock_accept", &[-1, 0, 64], badf),
        ("sock_accept", &[3, 0, 64], notsock),
        ("sock_accept", &[0, 0, 64], notsock),
        ("sock_accept", &[4, 1, 64], inval),
        ("sock_accept", &[4, 0, 65_533], fault),
        ("sock_recv", &[4, 0, 1, 0, 64, 68], notconn),
        ("sock_recv", &[3, 0, 1, 0, 64, 68], notsock),
        ("sock_send", &[4, 0, 1, 0, 64], notconn),
        ("sock_send", &[9, 0, 1, 0, 64], badf),
        ("sock_shutdown", &[4, 3], notconn),
        ("sock_shutdown", &[3, 3], notsock),
        ("fd_read", &[4, 0, 1, 64], notconn),
        ("fd_write", &[4, 0, 1, 64], notconn),
        ("fd_pread", &[4, 0, 1, 0, 64], spipe),
        ("fd_seek", &[4, 0, 0, 64], spipe),
        ("fd_tell", &[4, 64], spipe),
        ("fd_sync", &[4], inval),
        ("fd_filestat_set_size", &[4, 0], inval),
        ("fd_fdstat_set_rights", &[4, 0, 0], notsup),
        ("fd_fdstat_set_flags", &[4, 1], inval),
        ("fd_fdstat_set_flags", &[4, 4], 0),
        ("fd_fdstat_get", &[4, 65_530], fault),
        ("fd_filestat_get", &[4, 64], 0),
        // Where the search for pre-opened directories ends.
        ("fd_prestat_get", &[3, 64], 0),
        ("fd_prestat_get", &[4, 64], badf),
        ("fd_prestat_dir_name", &[4, 64, 4], badf),
        ("fd_readdir", &[4, 64, 4, 0, 80], notdir),
        ("path_open", &[4, 0, 100, 8, 0, 2, 0, 0, 64], notdir),
        ("path_open", &[5, 0, 100, 8, 0, 2, 0, 0, 64], badf),
        ("path_open", &[3, 0, 100, 8, 0, 2, 0, 0, 64], 0),
        ("path_unlink_file", &[4, 100, 8], notdir),
        ("fd_renumber", &[4, 9], badf),
        ("fd_renumber", &[9, 4], badf),
        ("fd_renumber", &[4, 4], 0),
        ("fd_close", &[4], 0),
        ("fd_close", &[5], badf),
        ("poll_oneoff", &[256, 512, 0, 64], inval),
    ];
    block_on(async {
        for (name, args, expected) in cases {
            let found = outcome(&runtime, folder.path(), &call(name, args)).await;
            assert_eq!(found, *expected, "{name}{args:?}");
        }
    });
}

#[test]
fn numbers_are_the_guest_s_own() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let close = |fd| call("fd_close", &[fd]);
    let accept = call("sock_accept", &[4, 0, 64]);
    let open = call("path_open", &[3, 0, 100, 8, 0, 2, 0, 0, 64]);
    let read = |fd| call("fd_read", &[fd, 0, 1, 68]);
    let number = "(i32.load (i32.const 64))";
    let cases = [
        (
            "behind the sockets",
            vec![accept.clone()],
            number.to_owned(),
            5,
        ),
        ("files too", vec![open.clone()], number.to_owned(), 5),
        (
            "and in turn",
            vec![accept.clone(), open.clone()],
            number.to_owned(),
            6,
        ),
        (
            "the free one",
            vec![close(3), accept.clone()],
            number.to_owned(),
            3,
        ),
        (
            "never a standard one",
            vec![close(0), accept.clone()],
            number.to_owned(),
            5,
        ),
        ("a closed socket", vec![close(4)], accept.clone(), 8),
        (
            "a file reads as one",
            vec![accept.clone(), open.clone(), read(6)],
            "(i32.load8_u (i32.const 8))".to_owned(),
            b't',
        ),
        (
            "a socket in the place of a directory",
            vec![call("fd_renumber", &[4, 3])],
            after(&[call("sock_accept", &[3, 0, 64])], number),
            4,
        ),
        (
            "a directory in the place of a socket",
            vec![call("fd_renumber", &[3, 4])],
            call("path_open", &[4, 0, 100, 8, 0, 2, 0, 0, 64]),
            0,
        ),
        (
            "it is a socket",
            vec![call("fd_fdstat_get", &[4, 64])],
            "(i32.load8_u (i32.const 64))".to_owned(),
            6,
        ),
        (
            "that does not wait",
            vec![
                call("sock_accept", &[4, 4, 64]),
                call("fd_fdstat_get", &[5, 64]),
            ],
            "(i32.load8_u (i32.const 66))".to_owned(),
            4,
        ),
        (
            "nothing is there",
            vec![call("sock_accept", &[4, 4, 64])],
            read(5),
            6,
        ),
    ];
    block_on(async {
        for (what, first, last, expected) in cases {
            let found = outcome(&runtime, folder.path(), &after(&first, &last)).await;
            assert_eq!(found, expected, "{what}");
        }
    });
}

#[test]
fn what_the_other_side_does_is_seen() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let accept = call("sock_accept", &[4, 0, 64]);
    let subscribe = |at, kind, fd| {
        format!(
            "(block (result i32) (call $subscribe (i32.const {at}) (i32.const {kind}) (i32.const {fd})) (i32.const 0))"
        )
    };
    let poll = |count| call("poll_oneoff", &[256, 1024, count, 64]);
    let all = call("sock_recv", &[5, 0, 1, 2, 68, 72]);
    let send = |text: &'static [u8]| {
        move |mut client: TcpStream| {
            // The rest comes when the guest waits already.
            client.write_all(&text[..1]).unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                client.write_all(&text[1..]).unwrap();
            });
        }
    };
    let reset = |client: TcpStream| {
        let now = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&client, now).unwrap();
    };
    block_on(async {
        let folder = folder.path();
        let body = after(&[accept.clone(), all.clone()], "(i32.load (i32.const 68))");
        let found = outcome_with(&runtime, folder, &body, listener(), send(b"four")).await;
        assert_eq!(found, 4, "all of it");
        let found = outcome_with(&runtime, folder, &body, listener(), send(b"two")).await;
        assert_eq!(found, 3, "all that comes before the end");
        let body = after(&[accept.clone()], &call("fd_read", &[5, 0, 1, 68]));
        let found = outcome_with(&runtime, folder, &body, listener(), reset).await;
        assert_eq!(found, 15, "a reset");
        for (what, place, expected) in [("hangup", 24, 1), ("no bytes", 16, 0), ("read", 10, 1)] {
            let load = format!("(i32.load8_u (i32.const {}))", 1024 + place);
            let body = after(&[accept.clone(), subscribe(256, 1, 5), poll(1)], &load);
            let found = outcome_with(&runtime, folder, &body, listener(), drop).await;
            assert_eq!(found, expected, "{what} after the end");
        }
        let load = "(i32.load8_u (i32.const 1034))";
        let body = after(&[accept.clone(), subscribe(256, 2, 5), poll(1)], load);
        let found = outcome_with(&runtime, folder, &body, listener(), drop).await;
        assert_eq!(found, 2, "there is room to write");
    });
}

#[test]
fn a_call_waits_for_several_things() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let subscribe = |at, kind, fd| {
        format!(
            "(block (result i32) (call $subscribe (i32.const {at}) (i32.const {kind}) (i32.const {fd})) (i32.const 0))"
        )
    };
    // The clock with the number of the "descriptor", that is the realtime or the monotonic one, at once.
    let clock = |id| subscribe(256, 0, id);
    let poll = |count| call("poll_oneoff", &[256, 1024, count, 64]);
    let [count, error, kind] = [64, 1032, 1034].map(|at| format!("(i32.load8_u (i32.const {at}))"));
    let bytes = "(i32.load8_u (i32.const 1040))".to_owned();
    let open = call("path_open", &[3, 0, 100, 8, 0, 2, 0, 0, 64]);
    let cases = [
        ("a clock alone", vec![clock(1), poll(1)], kind.clone(), 0),
        ("the other clock", vec![clock(0), poll(1)], count.clone(), 1),
        ("no clock", vec![clock(9), poll(1)], error.clone(), 28),
        (
            "a connection",
            vec![subscribe(256, 1, 4), poll(1)],
            kind.clone(),
            1,
        ),
        (
            "both",
            vec![clock(1), subscribe(304, 1, 4), poll(2)],
            count.clone(),
            2,
        ),
        (
            "nothing",
            vec![subscribe(256, 1, 9), poll(1)],
            error.clone(),
            8,
        ),
        (
            "a directory",
            vec![subscribe(256, 1, 3), poll(1)],
            error.clone(),
            8,
        ),
        (
            "output",
            vec![subscribe(256, 2, 1), poll(1)],
            error.clone(),
            0,
        ),
        (
            "output to input",
            vec![subscribe(256, 2, 0), poll(1)],
            error.clone(),
            8,
        ),
        (
            "input from output",
            vec![subscribe(256, 1, 1), poll(1)],
            error.clone(),
            8,
        ),
        (
            "output to a listener",
            vec![subscribe(256, 2, 4), poll(1)],
            error,
            53,
        ),
        (
            "a file",
            vec![open, subscribe(256, 1, 5), poll(1)],
            bytes,
            4,
        ),
        ("no such kind", vec![subscribe(256, 3, 4)], poll(1), 28),
        (
            "outside the memory",
            vec![],
            call("poll_oneoff", &[65_520, 0, 1, 64]),
            21,
        ),
    ];
    block_on(async {
        for (what, first, last, expected) in cases {
            let found = outcome(&runtime, folder.path(), &after(&first, &last)).await;
            assert_eq!(found, expected, "{what}");
        }
    });
}

#[test]
fn a_call_waits_for_so_many_things_and_no_more() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let most = i64::from(hostel_app::limits::POLL_SUBSCRIPTIONS.count());
    block_on(async {
        for (count, expected) in [(most + 1, 28), (i64::from(u32::MAX), 28)] {
            let body = call("poll_oneoff", &[256, 1024, count, 64]);
            let found = outcome(&runtime, folder.path(), &body).await;
            assert_eq!(found, expected, "{count}");
        }
        // So many zeros are so many clocks that are over; memory is what they lack here.
        let body = call("poll_oneoff", &[256, 1024, most, 64]);
        assert_eq!(outcome(&runtime, folder.path(), &body).await, 21);
    });
}

#[test]
fn a_guest_without_a_socket_is_told_that_there_is_none() {
    let runtime = testing::runtime(None);
    let text = module(&call("sock_accept", &[3, 0, 64]));
    let component = testing::component(text.as_bytes());
    let load = |role| testing::load(&runtime, &component, text.as_bytes(), role).unwrap();
    block_on(async {
        let service = start(&load(Role::Service), Vec::new());
        assert_eq!(service.ended().await, Ok(8), "a service");
        assert_eq!(
            load(Role::Run).run(&["it".to_owned()]).await,
            Ok(8),
            "a command"
        );
        assert_eq!(
            load(Role::Job).run(&["it".to_owned()]).await,
            Ok(8),
            "a job"
        );
    });
}

#[test]
fn there_are_no_more_connections_than_the_guest_may_hold() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let accept = call("sock_accept", &[4, 4, 64]);
    let text = module(&format!(
        "(block (result i32) (loop $again (br_if $again (i32.eqz {accept}))) {accept})"
    ));
    let mut component = testing::component(text.as_bytes());
    with_folder(&mut component, folder.path());
    component.limits.resources = 64;
    let guest = testing::load(&runtime, &component, text.as_bytes(), Role::Service).unwrap();
    let (listener, address) = listener();
    let _clients: Vec<_> = (0..70)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let ended = block_on(async { start(&guest, vec![listener]).ended().await });
    assert_eq!(ended, Ok(33));
}

#[test]
fn there_are_no_more_connections_than_all_services_may_hold() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let accept = module(&call("sock_accept", &[4, 0, 64]));
    let guest = load(&runtime, folder.path(), &accept);
    let network = &guest.0.template.network;
    let mut others: Vec<_> = std::iter::from_fn(|| Accepted::open(network)).collect();
    assert_eq!(others.len(), hostel_app::limits::SERVICE_CONNECTIONS.size());
    block_on(async {
        for expected in [33, 0, 0] {
            let (listener, address) = listener();
            let _client = TcpStream::connect(address).unwrap();
            let ended = start(&guest, vec![listener]).ended().await;
            // A service that has ended has given its place back.
            assert_eq!(ended, Ok(expected));
            others.truncate(hostel_app::limits::SERVICE_CONNECTIONS.size() - 1);
        }
    });
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i32::try_from((self.0 >> 33) % u64::from(most)).unwrap()
    }

    /// A descriptor that may exist, or not.
    fn fd(&mut self) -> i32 {
        match self.below(20) {
            0 => i32::MIN + self.below(100),
            1 => -1 - self.below(3),
            _ => self.below(8),
        }
    }

    /// An address that may be inside the memory, or not.
    fn at(&mut self) -> i32 {
        match self.below(20) {
            0 => -1 - self.below(100),
            1 => 65_536 - self.below(40),
            _ => self.below(4096),
        }
    }

    /// Mostly none.
    fn flags(&mut self) -> i32 {
        match self.below(4) {
            0 => self.below(16),
            1 => self.below(1 << 30),
            _ => 0,
        }
    }
}

async fn one_call(memory: &mut [u8], host: &mut Host, any: &mut Numbers) -> i32 {
    let (fd, count) = (any.fd(), any.below(4));
    let done = match any.below(14) {
        0 => calls::fd_close(memory, host, fd).await,
        1 => calls::fd_fdstat_get(memory, host, (fd, any.at())).await,
        2 => calls::fd_fdstat_set_flags(memory, host, (fd, any.flags())).await,
        3 => calls::fd_filestat_get(memory, host, (fd, any.at())).await,
        4 => calls::fd_read(memory, host, (fd, any.at(), count, any.at())).await,
        5 => calls::fd_renumber(memory, host, (fd, any.fd())).await,
        6 => calls::fd_write(memory, host, (fd, any.at(), count, any.at())).await,
        7 => poll::poll_oneoff(memory, host, (any.at(), any.at(), count, any.at())).await,
        8 => calls::sock_accept(memory, host, (fd, any.flags(), any.at())).await,
        9 => {
            let args = (fd, any.at(), count, any.flags(), any.at(), any.at());
            calls::sock_recv(memory, host, args).await
        }
        10 => calls::sock_send(memory, host, (fd, any.at(), count, any.flags(), any.at())).await,
        11 => calls::sock_shutdown(memory, host, (fd, any.flags())).await,
        _ => calls::sock_accept(memory, host, (4, 0, any.at())).await,
    };
    done.unwrap_or(-1)
}

/// Every number of the library's is in the table once, and none that it never gave out.
fn is_sound(table: &Descriptors, directories: u32) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    (0..64).all(|fd| match table.get(fd) {
        Ok(Descriptor::Library(number)) => *number < 3 + directories && seen.insert(*number),
        _ => true,
    })
}

#[test]
fn calls_at_random_break_nothing_and_reach_nothing_of_others() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let guest = load(&runtime, folder.path(), &module("(i32.const 0)"));
    block_on(async {
        let (mut succeeded, mut accepted) = (0, 0);
        for seed in 0..300 {
            let (ours, address) = listener();
            let (others, _) = listener();
            let (_stop, stopped) = watch::channel(true);
            let life = crate::abi::service::Life::new(ServiceStart {
                listeners: vec![ours],
                export: None,
                stop: stopped,
                ready: Box::new(|| {}),
                ready_line: None,
                cpu_percent: None,
            });
            let template = Arc::new(Template {
                life: Some(life),
                ..guest.0.template.as_ref().clone()
            });
            let mut store = Host::store(&guest.0.engine, &template, RequestId(0)).unwrap();
            store.data_mut().enable_p1().unwrap();
            let mut any = Numbers(seed);
            let mut memory = vec![0; 65_536];
            for byte in &mut memory {
                *byte = u8::try_from(any.below(6)).unwrap();
            }
            let mut clients = Vec::new();
            for turn in 0..60 {
                if turn % 8 == 0 {
                    let mut client = TcpStream::connect(address).unwrap();
                    client.write_all(b"some bytes").unwrap();
                    clients.push(client);
                    clients.drain(..clients.len() / 8);
                }
                let host = store.data_mut();
                let open = |host: &mut Host| {
                    (0..64)
                        .filter(|fd| host.descriptors().unwrap().stream(*fd).is_ok())
                        .count()
                };
                let before = open(host);
                let one = one_call(&mut memory, host, &mut any);
                // What waits is given up, as a service that is ended is.
                let code = tokio::time::timeout(Duration::from_millis(2), one).await;
                succeeded += usize::from(code == Ok(0));
                accepted += usize::from(open(host) > before);
                assert!((-1..=76).contains(&code.unwrap_or(0)), "seed {seed}");
                assert!(
                    is_sound(host.descriptors().unwrap(), 1),
                    "seed {seed}, turn {turn}"
                );
                assert!(file(host, -1, crate::p1::errno::Errno::SPIPE).is_err());
            }
            assert!(others.local_addr().is_ok());
        }
        assert!(
            succeeded > 1000 && accepted > 100,
            "{succeeded}, {accepted}"
        );
    });
}
