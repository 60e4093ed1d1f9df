//! [`Proxy`]: a TCP proxy that makes a server fail in the ways of a bad network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What happens to connections through a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Pass,
    /// Nobody listens; connections that are there are reset.
    Refuse,
    /// Bytes to the server pass; the answer is cut by a reset after so many of its bytes.
    ResetAfter(usize),
    /// Each piece of an answer comes so much later.
    Delay(Duration),
    /// The answer is not what it should be.
    Garbage,
    /// Connections are made, and nothing ever comes.
    Silence,
}

/// A TCP proxy on a port of this machine.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Counts the changes, so that what began before one can tell.
    epoch: u64,
    over: bool,
    open: Vec<Weak<TcpStream>>,
    accepted: u64,
}

impl Proxy {
    /// A proxy before a server on this port of 127.0.0.1; at first everything passes.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut proxy = Self {
            port: listener.local_addr().expect("its address").port(),
            shared: Arc::new(Shared {
                server: (Ipv4Addr::LOCALHOST, port).into(),
                state: Mutex::new(State {
                    mode: Mode::Pass,
                    epoch: 0,
                    over: false,
                    open: Vec::new(),
                    accepted: 0,
                }),
                changed: Condvar::new(),
            }),
            listener: None,
        };
        proxy.listen(listener);
        proxy
    }

    /// Its own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> u64 {
        self.shared.state.lock().unwrap().accepted
    }

    /// From now on, for connections that are there (which [`Mode::Refuse`] resets) and for new ones.
    pub fn set(&mut self, mode: Mode) {
        let refused = self.shared.state.lock().unwrap().mode == Mode::Refuse;
        self.change(|state| state.mode = mode);
        match (mode == Mode::Refuse, refused) {
            (true, false) => self.close(),
            (false, true) => {
                self.listen(self.bind_again());
            }
            _ => {}
        }
    }

    /// Resets every connection that is there.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state
            .open
            .drain(..)
            .filter_map(|socket| socket.upgrade())
            .for_each(|socket| reset(&socket));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.state.lock().unwrap();
        change(&mut state);
        state.epoch += 1;
        self.shared.changed.notify_all();
    }

    /// Ends the listening thread, and with it the listening socket.
    fn close(&mut self) {
        // A connection wakes the thread up, which then sees what it is for.
        let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.listener.take() {
            thread.join().expect("the proxy's thread ends well");
        }
        self.cut();
    }

    /// Somebody's outgoing connection may have the port for a moment.
    fn bind_again(&self) -> TcpListener {
        let begin = Instant::now();
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(listener) => return listener,
                Err(error) => assert!(
                    begin.elapsed() < Duration::from_secs(10),
                    "the proxy's port is taken: {error}"
                ),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn listen(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        self.listener = Some(thread::spawn(move || {
            for socket in listener.incoming() {
                let refuses = {
                    let state = shared.state.lock().unwrap();
                    state.over || state.mode == Mode::Refuse
                };
                if refuses {
                    return;
                }
                if let Ok(socket) = socket {
                    connect(&shared, socket);
                }
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.over = true);
        self.close();
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(shared.server) else {
        return reset(&client);
    };
    let (client, server) = (Arc::new(client), Arc::new(server));
    {
        let mut state = shared.state.lock().unwrap();
        state.accepted += 1;
        state.open.retain(|socket| socket.strong_count() > 0);
        state.open.extend([&client, &server].map(Arc::downgrade));
    }
    let ends = (client.clone(), server.clone());
    thread::spawn(move || requests(&ends.0, &ends.1));
    let shared = shared.clone();
    thread::spawn(move || answers(&shared, &server, &client));
}

/// What the client says always reaches the server.
fn requests(mut client: &TcpStream, mut server: &TcpStream) {
    let _ended = std::io::copy(&mut client, &mut server);
    let _ended = server.shutdown(Shutdown::Write);
}

fn answers(shared: &Shared, mut server: &TcpStream, client: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    while let Ok(length) = server.read(&mut buffer) {
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            break;
        };
        if !answer(shared, piece, &mut passed, client) {
            reset(server);
            return reset(client);
        }
    }
    let _ended = client.shutdown(Shutdown::Both);
}

/// Whether the connection goes on after this piece.
fn answer(shared: &Shared, piece: &[u8], passed: &mut usize, mut client: &TcpStream) -> bool {
    let mode = shared.state.lock().unwrap().mode;
    match mode {
        Mode::Pass => client.write_all(piece).is_ok(),
        Mode::Refuse => false,
        Mode::Delay(time) => {
            shared.wait(time, mode);
            client.write_all(piece).is_ok()
        }
        Mode::Garbage => client
            .write_all(&[0xff, b'\n', 0x00, b'!', 0x80, 0x7f, b'\r', b'\n'].repeat(16))
            .is_ok(),
        Mode::Silence => {
            shared.wait(Duration::from_secs(3600), mode);
            false
        }
        Mode::ResetAfter(most) => {
            let part = piece.len().min(most.saturating_sub(*passed));
            *passed += part;
            client.write_all(&piece[..part]).is_ok() && part == piece.len()
        }
    }
}

impl Shared {
    /// Waits, or until the mode is another one.
    fn wait(&self, time: Duration, mode: Mode) {
        let state = self.state.lock().unwrap();
        let same = |state: &mut State| !state.over && state.mode == mode;
        drop(self.changed.wait_timeout_while(state, time, same).unwrap());
    }
}

/// Ends with a reset instead of a farewell: no more is read, which ends the threads, and the last one closes the socket.
fn reset(socket: &TcpStream) {
    let _ended = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    let _ended = socket.shutdown(Shutdown::Read);
}
