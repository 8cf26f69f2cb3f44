//! Tells whoever started this process how it goes, as systemd asks (`NOTIFY_SOCKET`, `Type=notify` and `notify-reload`).

use crate::clock;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

/// Where to tell it; nobody may ask.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It serves.
    Ready,
    /// It reads its configuration anew; [`News::Ready`] follows, whatever comes of it.
    Reloading,
    /// It ends.
    Stopping,
}

impl Supervisor {
    /// The one that the environment names, where it can be reached.
    #[must_use]
    pub fn from_env() -> Supervisor {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached");
                None
            }
        });
        Supervisor { socket }
    }

    /// Tells it, or drops it where nobody reads: nothing waits for a supervisor.
    pub(super) fn tell(&self, news: News) {
        let Some(socket) = &self.socket else { return };
        let text = match news {
            News::Ready => "READY=1".to_owned(),
            News::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()),
            News::Stopping => "STOPPING=1".to_owned(),
        };
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!(%error, "the supervisor was not told");
        }
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(name)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_arrive_in_the_words_that_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor { socket: Some(connect(path.as_os_str()).unwrap()) };
        let mut text = [0; 128];
        let mut next = |news| {
            supervisor.tell(news);
            let length = heard.recv(&mut text).unwrap();
            String::from_utf8(text[..length].to_vec()).unwrap()
        };
        assert_eq!(next(News::Ready), "READY=1");
        assert_eq!(next(News::Stopping), "STOPPING=1");
        let (first, second) = (next(News::Reloading), next(News::Reloading));
        let micros = |text: &str| text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
        assert!(micros(&first) <= micros(&second));
    }

    #[test]
    fn nobody_who_listens_is_no_trouble() {
        Supervisor::default().tell(News::Ready);
        let folder = tempfile::tempdir().unwrap();
        assert!(connect(folder.path().join("none").as_os_str()).is_err());
    }
}
