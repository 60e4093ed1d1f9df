//! A blocking HTTP/1.1 client that sends exactly the bytes it is given and judges strictly what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;
use super::message::{Answer, Fields, Head, parse_fields, parse_head, value};

/// One connection to a server.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Received and not used yet.
    unread: Vec<u8>,
}

/// An answer that did not come to its end.
#[derive(Debug)]
pub(crate) struct Cut {
    /// What had come of it; `None` where there was not even a head.
    pub(crate) part: Option<Answer>,
    /// How the connection ended: `closed`, or the error.
    pub(crate) how: String,
}

impl Connection {
    /// Connects; every later read and write gives up when the patience is over.
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// The same from another address of this machine, 127.0.0.`last`.
    #[expect(
        clippy::disallowed_methods,
        reason = "no guest dials here: this is the client"
    )]
    pub(crate) fn open_from(last: u8, address: SocketAddr) -> std::io::Result<Self> {
        super::http2::converse(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
            let stream = socket.connect(address).await?.into_std()?;
            stream.set_nonblocking(false)?;
            Self::over(stream)
        })
    }

    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// The socket itself, for those who write and read at once.
    pub(crate) fn stream(&self) -> TcpStream {
        self.stream.try_clone().expect("a second handle")
    }

    /// Whether nothing has come so far: no byte, no end.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket");
        self.unread.is_empty()
            && matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server reads");
    }

    /// Sends bytes as far as they are taken: for a server that may close before it has read them all.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _refused = self.stream.write_all(bytes.as_ref());
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("the server is there");
    }

    /// The same to a server that may have closed already.
    pub(crate) fn try_finish_sending(&mut self) {
        let _closed = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        let is_head = request.starts_with(b"HEAD ");
        self.read_answer(is_head)
            .unwrap_or_else(|cut| panic!("no whole answer: {cut:?}"))
    }

    /// Reads the whole answer to a request that is no `HEAD`.
    pub(crate) fn answer(&mut self) -> Answer {
        self.read_answer(false)
            .unwrap_or_else(|cut| panic!("no whole answer: {cut:?}"))
    }

    /// Reads the answer, whole or not.
    pub(crate) fn try_answer(&mut self) -> Result<Answer, Box<Cut>> {
        self.read_answer(false)
    }

    /// Sends what need not be taken to its end, and reads the answer.
    pub(crate) fn offend(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.try_send(bytes);
        self.answer()
    }

    fn read_answer(&mut self, no_body: bool) -> Result<Answer, Box<Cut>> {
        let head = self
            .try_head()
            .map_err(|how| Box::new(Cut { part: None, how }))?;
        let mut answer = Answer {
            status: head.status,
            fields: head.fields,
            body: Vec::new(),
            chunks: Vec::new(),
            trailers: Fields::new(),
        };
        if no_body || matches!(answer.status, 204 | 205 | 304) {
            return Ok(answer);
        }
        match self.read_body(&mut answer) {
            Ok(()) => Ok(answer),
            Err(how) => Err(Box::new(Cut {
                part: Some(answer),
                how,
            })),
        }
    }

    /// Reads the head of an answer; its body is to follow by [`Connection::body_of`].
    pub(crate) fn head(&mut self) -> Head {
        self.try_head()
            .unwrap_or_else(|how| panic!("no head: {how}"))
    }

    /// Reads the body behind a head.
    pub(crate) fn body_of(&mut self, head: Head) -> Answer {
        let Head { status, fields } = head;
        let mut answer = Answer {
            status,
            fields,
            body: Vec::new(),
            chunks: Vec::new(),
            trailers: Fields::new(),
        };
        self.read_body(&mut answer)
            .unwrap_or_else(|how| panic!("no whole body: {how}"));
        answer
    }

    fn try_head(&mut self) -> Result<Head, String> {
        let text = self.read_until(b"\r\n\r\n")?;
        Ok(parse_head(&text))
    }

    fn read_body(&mut self, answer: &mut Answer) -> Result<(), String> {
        let length = answer
            .field("content-length")
            .map(|length| length.parse::<usize>().expect("a length"));
        let chunked =
            value(&answer.fields, "transfer-encoding").map(|coding| assert_eq!(coding, "chunked"));
        match (length, chunked) {
            (Some(_), Some(())) => panic!("both framings in an answer: {:?}", answer.fields),
            (Some(length), None) => self.read_exactly(length, &mut answer.body),
            (None, Some(())) => self.read_chunks(answer),
            (None, None) => {
                answer.body = self.rest();
                Ok(())
            }
        }
    }

    fn read_chunks(&mut self, answer: &mut Answer) -> Result<(), String> {
        loop {
            let size = self.read_until(b"\r\n")?;
            let size = usize::from_str_radix(&size, 16)
                .unwrap_or_else(|_| panic!("not a chunk size: {size:?}"));
            if size == 0 {
                break;
            }
            answer.chunks.push(size);
            self.read_exactly(size, &mut answer.body)?;
            assert_eq!(self.read_until(b"\r\n")?, "", "something behind a chunk");
        }
        loop {
            let line = self.read_until(b"\r\n")?;
            if line.is_empty() {
                return Ok(());
            }
            answer.trailers.extend(parse_fields(&line));
        }
    }

    /// The text before the first `end`, which is taken as well.
    fn read_until(&mut self, end: &[u8]) -> Result<String, String> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(end.len());
            let found = self.unread[from..]
                .windows(end.len())
                .position(|part| part == end);
            if let Some(at) = found.map(|at| at + from) {
                let text = String::from_utf8_lossy(&self.unread[..at]).into_owned();
                self.unread.drain(..at + end.len());
                return Ok(text);
            }
            searched = self.unread.len();
            self.receive()?;
        }
    }

    /// Moves what has come of `length` bytes to `target`, and fails where it is not all.
    fn read_exactly(&mut self, length: usize, target: &mut Vec<u8>) -> Result<(), String> {
        let end = target.len() + length;
        loop {
            let length = self.unread.len().min(end - target.len());
            target.extend(self.unread.drain(..length));
            if target.len() == end {
                return Ok(());
            }
            self.receive()?;
        }
    }

    /// Waits for more bytes; the error says how the connection ended.
    fn receive(&mut self) -> Result<(), String> {
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err("closed".to_owned()),
            Ok(length) => {
                self.unread.extend_from_slice(&piece[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!(
                    "nothing came for {PATIENCE:?}; unread: {:?}",
                    String::from_utf8_lossy(&self.unread)
                )
            }
            Err(error) => Err(error.kind().to_string()),
        }
    }

    /// Everything until the connection ends, however it ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.receive().is_ok() {}
        std::mem::take(&mut self.unread)
    }

    /// Fails unless the connection ends without another byte.
    pub(crate) fn is_closed(&mut self) {
        assert_eq!(
            String::from_utf8_lossy(&self.rest()),
            "",
            "something came before the end"
        );
    }
}
