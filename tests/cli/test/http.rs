//! Just enough HTTP/1.1 to ask one question.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait for a connection and for each read.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks over a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> io::Result<Answer> {
    let mut connection = Connection::open(port)?;
    connection.get(path, "close")
}

/// One connection, for one or many questions.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    /// Whether a byte of the last answer came.
    pub(super) answered: bool,
    /// Whether the server said that it will close it.
    pub(super) ends: bool,
}

impl Connection {
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), answered: false, ends: false })
    }

    /// Asks; `keep` is the value of the `Connection` header.
    pub(super) fn get(&mut self, path: &str, keep: &str) -> io::Result<Answer> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {keep}\r\n\r\n");
        self.answered = false;
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answered = loop {
            match self.stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                read => break !read?.is_empty(),
            }
        };
        let status = self.status()?;
        let body = match self.body_length()? {
            Some(length) => {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                body
            }
            None => self.read_to_end()?,
        };
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn status(&mut self) -> io::Result<u16> {
        let line = self.line()?;
        let code = line.split(' ').nth(1).and_then(|it| it.parse().ok());
        code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, line))
    }

    /// Reads the headers; `None` if the body ends with the connection.
    fn body_length(&mut self) -> io::Result<Option<usize>> {
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(length);
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            self.ends |= line == "connection: close";
        }
    }

    fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }
}
