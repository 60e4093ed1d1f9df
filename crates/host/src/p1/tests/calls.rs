//! Single calls: what each returns for which kind of descriptor, as the standard has it.

use std::io::Write;

use super::*;
use crate::net::Accepted;
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
pub(super) fn module(body: &str) -> String {
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
pub(super) fn call(name: &str, args: &[i64]) -> String {
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

/// Writes a subscription to be read or written, at this address.
fn subscribe(at: i64, kind: i64, fd: i64) -> String {
    let args = [at, kind, fd].map(|value| format!("(i32.const {value})"));
    let args = args.join(" ");
    format!("(block (result i32) (call $subscribe {args}) (i32.const 0))")
}

/// The calls one after the other; the last one's result remains.
fn after(first: &[String], last: &str) -> String {
    let first: String = first.iter().map(|call| format!("(drop {call})")).collect();
    format!("(block (result i32) {first} {last})")
}

/// Loads a text as a service that may use `folder`, which it finds at descriptor 3.
pub(super) fn load(runtime: &Runtime, folder: &Path, text: &str) -> Guest {
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
    let connection = connect(address).unwrap();
    let _stays = client(connection);
    let ended = start(&guest, vec![listener]).ended().await;
    ended.unwrap_or_else(|fault| panic!("{body}: {fault:?}"))
}

pub(super) fn folder() -> tempfile::TempDir {
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

/// What it is about, the calls, and what the last one leaves.
type Case<'a> = (&'static str, &'a [&'a str], u8);

fn each_leaves(cases: &[Case<'_>]) {
    let (runtime, folder) = (testing::runtime(None), folder());
    block_on(async {
        for (what, calls, expected) in cases {
            let Some((last, first)) = calls.split_last() else {
                panic!("{what}: no calls");
            };
            let first: Vec<String> = first.iter().map(|call| (*call).to_owned()).collect();
            let found = outcome(&runtime, folder.path(), &after(&first, last)).await;
            assert_eq!(found, *expected, "{what}");
        }
    });
}

/// Opens the file, with its number at 64.
fn open() -> String {
    call("path_open", &[3, 0, 100, 8, 0, 2, 0, 0, 64])
}

/// The byte at an address.
fn byte(at: i64) -> String {
    format!("(i32.load8_u (i32.const {at}))")
}

#[test]
fn numbers_are_the_guest_s_own() {
    let (accept, open, number) = (&*call("sock_accept", &[4, 0, 64]), &*open(), &*byte(64));
    let at_once = &*call("sock_accept", &[4, 4, 64]);
    let close = [0, 3, 4].map(|fd| call("fd_close", &[fd]));
    let [close_input, close_folder, close_socket] = close.each_ref().map(|call| &**call);
    let [read_5, read_6] = [5, 6].map(|fd| call("fd_read", &[fd, 0, 1, 68]));
    let poll = [
        subscribe(256, 1, 5),
        call("poll_oneoff", &[256, 1024, 1, 64]),
    ];
    let renumber = [[4, 3], [3, 4]].map(|fds| call("fd_renumber", &fds));
    let accept_3 = call("sock_accept", &[3, 0, 64]);
    let open_4 = call("path_open", &[4, 0, 100, 8, 0, 2, 0, 0, 64]);
    let stat = [4, 5].map(|fd| call("fd_fdstat_get", &[fd, 64]));
    let (bytes, flags, first) = (&*byte(1040), &*byte(66), &*byte(8));
    each_leaves(&[
        ("behind the sockets", &[accept, number], 5),
        ("files too", &[open, number], 5),
        ("and in turn", &[accept, open, number], 6),
        ("the free one", &[close_folder, accept, number], 3),
        ("never a standard one", &[close_input, accept, number], 5),
        (
            "a file is no standard stream then",
            &[close_input, open, &poll[0], &poll[1], bytes],
            4,
        ),
        ("a closed socket", &[close_socket, accept], 8),
        ("a file reads as one", &[accept, open, &read_6, first], b't'),
        (
            "a socket for a directory",
            &[&renumber[0], &accept_3, number],
            4,
        ),
        ("a directory for a socket", &[&renumber[1], &open_4], 0),
        ("it is a socket", &[&stat[0], number], 6),
        ("that does not wait", &[at_once, &stat[1], flags], 4),
        ("nothing is there", &[at_once, &read_5], 6),
    ]);
}

#[test]
fn what_the_other_side_does_is_seen() {
    let (runtime, folder) = (testing::runtime(None), folder());
    let accept = call("sock_accept", &[4, 0, 64]);
    let poll = |count| call("poll_oneoff", &[256, 1024, count, 64]);
    let all = call("sock_recv", &[5, 0, 1, 2, 68, 72]);
    let send = |text: &'static [u8]| {
        move |mut client: TcpStream| {
            // The rest comes when the guest waits already.
            client.write_all(&text[..1]).unwrap();
            std::thread::spawn(move || {
                rest();
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
        let body = after(
            std::slice::from_ref(&accept),
            &call("fd_read", &[5, 0, 1, 68]),
        );
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
    // The clock with the number of the "descriptor", that is the realtime or the monotonic one, at once.
    let clock = [0, 1, 9].map(|id| subscribe(256, 0, id));
    let [realtime, monotonic, no_clock] = clock.each_ref().map(|call| &**call);
    let poll = [1, 2].map(|count| call("poll_oneoff", &[256, 1024, count, 64]));
    let [one, two] = poll.each_ref().map(|call| &**call);
    let found = [64, 1032, 1034, 1040].map(byte);
    let [count, error, kind, bytes] = found.each_ref().map(|load| &**load);
    let read = [0, 1, 3, 4, 5, 9].map(|fd| subscribe(256, 1, fd));
    let write = [0, 1, 4].map(|fd| subscribe(256, 2, fd));
    let second = &*subscribe(304, 1, 4);
    let nonsense = &*subscribe(256, 3, 4);
    let outside = &*call("poll_oneoff", &[65_520, 0, 1, 64]);
    each_leaves(&[
        ("a clock alone", &[monotonic, one, kind], 0),
        ("the other clock", &[realtime, one, count], 1),
        ("no clock", &[no_clock, one, error], 28),
        ("a connection", &[&read[3], one, kind], 1),
        ("both", &[monotonic, second, two, count], 2),
        ("nothing", &[&read[5], one, error], 8),
        ("a directory", &[&read[2], one, error], 8),
        ("input from output", &[&read[1], one, error], 8),
        ("output", &[&write[1], one, error], 0),
        ("output to input", &[&write[0], one, error], 8),
        ("output to a listener", &[&write[2], one, error], 53),
        ("a file", &[&open(), &read[4], one, bytes], 4),
        ("no such kind", &[nonsense, one], 28),
        ("outside the memory", &[outside], 21),
    ]);
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
    let _clients: Vec<_> = (0..70).map(|_| connect(address).unwrap()).collect();
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
            let _client = connect(address).unwrap();
            let ended = start(&guest, vec![listener]).ended().await;
            // A service that has ended has given its place back.
            assert_eq!(ended, Ok(expected));
            others.truncate(hostel_app::limits::SERVICE_CONNECTIONS.size() - 1);
        }
    });
}
