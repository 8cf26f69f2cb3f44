//! As much of Redis's protocol (RESP2) as a test needs to ask a server what it holds.

use crate::support::wait::PATIENCE;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    List(Vec<Reply>),
    Error(String),
    Nil,
}

impl Reply {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Reply::Text(text) | Reply::Error(text) => Some(text),
            Reply::Number(_) | Reply::List(_) | Reply::Nil => None,
        }
    }

    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub(crate) fn number(&self) -> i64 {
        match self {
            Reply::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub(crate) fn list(&self) -> &[Reply] {
        match self {
            Reply::List(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }
}

/// One connection.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client(BufReader::new(stream)))
    }

    pub(super) fn ask(&mut self, words: &[&str]) -> Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::UnexpectedEof)?;
        let count = || rest.parse::<i64>().map_err(|_| Error::new(ErrorKind::InvalidData, line.to_owned()));
        Ok(match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(count()?),
            "$" | "*" if count()? < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; count()? as usize + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => Reply::List((0..count()?).map(|_| self.reply()).collect::<Result<_>>()?),
            _ => return Err(Error::new(ErrorKind::InvalidData, line.to_owned())),
        })
    }
}
