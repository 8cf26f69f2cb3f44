//! How many files and sockets the process may have open, and how many of them clients may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that is no connection, where the limit is high enough: listeners, files, logs, the admin.
const RESERVE: u64 = 256;

/// Raises the number of descriptors that the process may open to what it may raise it to. Answers the new number; `None`: any.
///
/// Many systems start processes with 1,024 for the sake of `select`, which is not used here.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays");
            current
        }
    }
}

/// Client connections that the process has descriptors for, with one towards an upstream for each and a reserve.
#[must_use]
pub fn room_for_clients() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, room_within)
}

fn room_within(descriptors: u64) -> usize {
    let reserve = RESERVE.min(descriptors / 4);
    usize::try_from((descriptors - reserve) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_for_everything_else() {
        assert_eq!(room_within(1_048_576), 524_160);
        assert_eq!(room_within(1_024), 384);
        assert_eq!(room_within(64), 24);
        assert_eq!(room_within(0), 1);
    }

    #[test]
    fn raising_never_lowers() {
        let before = room_for_clients();
        raise_limit();
        assert!(room_for_clients() >= before);
    }
}
