//! A server on loopback whose clients are served one thread each, with TLS or without. It ends with its value.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use openssl::ssl::SslAcceptor;

/// One client, encrypted or not.
pub trait Client: Read + Write {}
impl<T: Read + Write> Client for T {}

pub struct Server {
    pub port: u16,
    ended: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `serve` ends when the client has gone, with an error.
    pub fn start(
        tls: Option<SslAcceptor>,
        serve: impl Fn(&mut dyn Client, u16) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ended, open) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let serve = Arc::new(serve);
        let thread = std::thread::spawn({
            let (ended, open) = (Arc::clone(&ended), Arc::clone(&open));
            move || {
                for client in listener.incoming() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut client = client.unwrap();
                    open.lock().unwrap().push(client.try_clone().unwrap());
                    let (serve, tls) = (Arc::clone(&serve), tls.clone());
                    std::thread::spawn(move || {
                        let _ = match tls {
                            None => serve(&mut client, port),
                            // A client that does not like the certificate goes away.
                            Some(tls) => tls.accept(&client).map_or(Ok(()), |mut client| serve(&mut client, port)),
                        };
                        let _ = client.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, ended, open, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is left of a request, in network order.
pub struct Rest<'r>(pub &'r [u8]);

impl<'r> Rest<'r> {
    pub fn take(&mut self, length: usize) -> &'r [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    pub fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// Behind a length of two bytes; minus one: none.
    pub fn text(&mut self) -> &'r str {
        let length = usize::try_from(self.int16()).unwrap_or(0);
        std::str::from_utf8(self.take(length)).unwrap()
    }

    /// Behind a length of four bytes; minus one: none.
    pub fn bytes(&mut self) -> &'r [u8] {
        let length = usize::try_from(self.int32()).unwrap_or(0);
        self.take(length)
    }
}

/// An answer, in network order.
#[derive(Default)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn int8(&mut self, number: u8) -> &mut Self {
        self.0.push(number);
        self
    }

    pub fn int16(&mut self, number: i16) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn int32(&mut self, number: i32) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn int64(&mut self, number: i64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// A count of four bytes.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.int32(i32::try_from(count).unwrap())
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.int16(i16::try_from(text.len()).unwrap()).0.extend(text.as_bytes());
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).0.extend(bytes);
        self
    }
}
