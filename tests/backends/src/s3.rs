//! S3, by the crate `s3s-fs`: objects are files below a folder.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::sync::oneshot;

use crate::process::{Folder, free_port};

/// An S3 server with one empty bucket.
#[derive(Debug)]
pub struct S3 {
    folder: Folder,
    port: u16,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// The key that the server knows.
const ACCESS_KEY: &str = "hostel-tests";
/// And its secret.
const SECRET_KEY: &str = "open-sesame-s3";
/// The bucket that is there.
const BUCKET: &str = "tests";

impl S3 {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let folder = Folder::new("s3");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a folder for the bucket");
        let mut server = Self {
            folder,
            port: free_port(),
            running: None,
        };
        server.run();
        server
    }

    /// Where its bucket is, with everything that a client needs: `s3://KEY:SECRET@tests?endpoint=http://127.0.0.1:PORT&…`.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same bucket behind another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        let endpoint = format!("http%3A%2F%2F127.0.0.1%3A{port}");
        format!(
            "s3://{ACCESS_KEY}:{SECRET_KEY}@{BUCKET}?endpoint={endpoint}&region=us-east-1&path-style=true"
        )
    }

    /// The secret, to look for it where it must not be.
    pub fn secret(&self) -> &'static str {
        SECRET_KEY
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the bucket's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Cuts its connections and closes its port. Its data stays.
    pub fn kill(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().expect("the server's thread ends well");
        }
    }

    /// Starts it again on the same port with the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    fn run(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = sync_channel(1);
        let (root, port) = (self.folder.path().to_owned(), self.port);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("an event loop");
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
            ready.send(()).expect("somebody waits");
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, service(&root)) => {}
                }
            });
        });
        is_ready.recv().expect("the server starts");
        self.running = Some((stop, thread));
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}

fn service(root: &Path) -> S3Service {
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("a folder for objects"));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.build()
}

async fn serve(listener: TcpListener, service: S3Service) {
    listener
        .set_nonblocking(true)
        .expect("a listener that does not block");
    let listener =
        tokio::net::TcpListener::from_std(listener).expect("a listener of the event loop");
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            // What breaks a connection is what a test did to it.
            let _ended = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}
