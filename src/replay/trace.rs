//! The requests of all traces of a replay, in the order in which they began.

use super::ReplayError;
use super::arrival::{Accounts, Arrival, Classed, Classes};
use super::format::{Mapping, Reader};
use super::input::{BytesRead, Input};
use super::lines::{Lines, Next};
use super::order::{MOST, Order};
use super::record::{Fault, Record};
use crate::engine::{Id, Nanos};
use std::ops::Range;

/// Line numbers that are kept of each kind of fault.
pub const FIRST_FAULTS: usize = 5;
/// Lines between two calls of [`Watch::reached`].
const STEP_LINES: u64 = 8_192;
/// Requests that are looked at ahead of their turn.
const AHEAD: usize = 16;

/// Watches a replay go on.
pub trait Watch {
    /// A pass over all traces begins, of so many bytes as they are stored.
    fn begins(&mut self, pass: &str, bytes: u64);
    /// So many bytes and lines have been read of it.
    fn reached(&mut self, bytes: u64, lines: u64);
}

impl Watch for () {
    fn begins(&mut self, _: &str, _: u64) {}
    fn reached(&mut self, _: u64, _: u64) {}
}

/// Takes the requests of a pass, one after the other.
pub trait Turns {
    /// These come next, with their moments. They can be made ready for, so that what they need from memory comes together;
    /// nothing may depend on it.
    fn ahead(&mut self, _next: &[(u64, Arrival)], _accounts: &Accounts) {}
    /// It is this one's turn.
    fn take(&mut self, at: Nanos, arrival: &Arrival, accounts: &Accounts);
}

impl<F: FnMut(Nanos, &Arrival, &Accounts)> Turns for F {
    fn take(&mut self, at: Nanos, arrival: &Arrival, accounts: &Accounts) {
        self(at, arrival, accounts);
    }
}

/// What was read, and what was wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines, empty ones too.
    pub lines: u64,
    /// Requests that came as far as the limits.
    pub requests: u64,
    /// Requests that did not: without a key, an account or a route.
    pub elsewhere: u64,
    /// By kind of fault, in the order of [`Fault::ALL`].
    pub faults: [Faults; Fault::ALL.len()],
}

/// Faults of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first, by the input's place and the line.
    pub first: Vec<(usize, u64)>,
}

/// All traces of a replay.
#[derive(Debug)]
pub struct Traces {
    /// In the order they were named.
    pub inputs: Vec<Input>,
    /// How they are written; `None`: each file tells.
    pub mapping: Option<Mapping>,
    /// Whether a file that is plainly the gateway's own log is read as such, whatever `mapping` says.
    pub own_too: bool,
    /// Whether the first fault is an error.
    pub strict: bool,
}

/// One file while it is read.
struct Source {
    place: usize,
    lines: Option<Lines<Box<dyn std::io::Read>>>,
    reader: Reader,
    order: Order<Arrival>,
}

/// One pass over all traces.
struct Pass<'p, 'c, W> {
    traces: &'p Traces,
    classes: &'p mut Classes<'c>,
    tally: Tally,
    read: BytesRead,
    /// Requests of the file that is read, with their accounts' names one after the other.
    unplaced: Vec<Unplaced>,
    names: String,
    watch: &'p mut W,
}

/// A request whose account is yet to be found: that is done for several together.
struct Unplaced {
    line: u64,
    at: u64,
    arrival: Arrival,
    id: Id,
    name: Range<usize>,
}

impl Traces {
    /// Hands every request to `turns`, in the order in which they began.
    ///
    /// # Errors
    /// A file is gone; or, with `strict`, the first fault.
    pub fn pass<W: Watch>(
        &self,
        name: &str,
        classes: &mut Classes<'_>,
        watch: &mut W,
        mut turns: impl Turns,
    ) -> Result<Tally, ReplayError> {
        let mut bytes = 0;
        for input in &self.inputs {
            bytes += input.size().map_err(|error| ReplayError::Input { file: input.name(), error })?;
        }
        watch.begins(name, bytes);
        let mut pass = Pass {
            traces: self,
            classes,
            tally: Tally::default(),
            read: BytesRead::default(),
            unplaced: Vec::new(),
            names: String::new(),
            watch,
        };
        let most = (MOST / self.inputs.len().max(1)).max(1_024);
        let mut sources = Vec::new();
        for place in 0..self.inputs.len() {
            sources.push(pass.open(place, most)?);
        }
        let mut next = Vec::with_capacity(AHEAD);
        loop {
            pass.next(&mut sources, &mut next)?;
            if next.is_empty() {
                break;
            }
            pass.tally.requests += next.len() as u64;
            let accounts = pass.classes.accounts();
            turns.ahead(&next, accounts);
            next.drain(..).for_each(|(at, arrival)| turns.take(Nanos(at), &arrival, accounts));
        }
        pass.watch.reached(pass.read.get(), pass.tally.lines);
        Ok(pass.tally)
    }

    /// A place in a file, as people write it.
    #[must_use]
    pub fn place(&self, input: usize, line: u64) -> String {
        let name = self.inputs.get(input).map(Input::name).unwrap_or_default();
        format!("{name}:{line}")
    }
}

impl<W: Watch> Pass<'_, '_, W> {
    fn open(&mut self, place: usize, most: usize) -> Result<Source, ReplayError> {
        let reader = Reader::new(self.traces.mapping.as_ref(), self.traces.own_too);
        let mut source = Source { place, lines: None, reader, order: Order::new(most) };
        match self.traces.inputs.get(place).map(|input| input.open(&self.read)) {
            Some(Ok(file)) => source.lines = Some(Lines::new(file)),
            Some(Err(_)) => self.fault(Fault::Unreadable, place, 1)?,
            None => {}
        }
        Ok(source)
    }

    /// The next requests of all files: the earliest of those that each file has next, of one moment those of the first file.
    fn next(&mut self, sources: &mut [Source], next: &mut Vec<(u64, Arrival)>) -> Result<(), ReplayError> {
        while next.len() < AHEAD {
            let (mut earliest, mut second) = (None, None);
            for (place, source) in sources.iter_mut().enumerate() {
                while !source.order.is_ready() && source.lines.is_some() {
                    self.read_on(source)?;
                }
                let Some(own) = source.order.peek().map(|at| (at, place)) else { continue };
                if earliest.is_none_or(|known| own < known) {
                    (earliest, second) = (Some(own), earliest);
                } else if second.is_none_or(|known| own < known) {
                    second = Some(own);
                }
            }
            let Some((_, place)) = earliest else { return Ok(()) };
            if let Some(source) = sources.get_mut(place) {
                let is_earliest = |at| second.is_none_or(|second| (at, place) < second);
                source.order.hand_on(AHEAD - next.len(), is_earliest, next);
            }
        }
        Ok(())
    }

    /// Reads the next lines.
    fn read_on(&mut self, source: &mut Source) -> Result<(), ReplayError> {
        for _ in 0..AHEAD {
            self.read_one(source)?;
        }
        self.place(source)
    }

    /// Finds the accounts of the requests that were read, and puts these into their order.
    fn place(&mut self, source: &mut Source) -> Result<(), ReplayError> {
        let mut unplaced = std::mem::take(&mut self.unplaced);
        self.classes.look_ahead(unplaced.iter().map(|request| request.id));
        for Unplaced { line, at, mut arrival, id, name } in unplaced.drain(..) {
            self.classes.place(&mut arrival, id, self.names.get(name).unwrap_or_default());
            if !source.order.push(at, arrival) {
                self.fault(Fault::Late, source.place, line)?;
            }
        }
        self.names.clear();
        self.unplaced = unplaced;
        Ok(())
    }

    /// Reads one line, if there is one.
    fn read_one(&mut self, source: &mut Source) -> Result<(), ReplayError> {
        let Source { lines: Some(lines), reader, .. } = source else { return Ok(()) };
        let next = lines.advance();
        let number = lines.number();
        match next {
            Ok(Next::Line { at, whole }) => {
                self.count_line();
                match self.line(lines.bytes(&at), whole, number, reader) {
                    Ok(()) => Ok(()),
                    Err(fault) => self.fault_in(source, fault, number),
                }
            }
            Ok(Next::Long) => {
                self.count_line();
                self.fault_in(source, Fault::Long, number)
            }
            Ok(Next::End) => self.end(source),
            Err(_) => {
                self.end(source)?;
                self.fault(Fault::Unreadable, source.place, number + 1)
            }
        }
    }

    fn end(&mut self, source: &mut Source) -> Result<(), ReplayError> {
        self.place(source)?;
        source.order.end();
        source.lines = None;
        Ok(())
    }

    /// A fault of a line, after those of the lines before it.
    fn fault_in(&mut self, source: &mut Source, fault: Fault, line: u64) -> Result<(), ReplayError> {
        self.place(source)?;
        self.fault(fault, source.place, line)
    }

    fn count_line(&mut self) {
        self.tally.lines += 1;
        if self.tally.lines.is_multiple_of(STEP_LINES) {
            self.watch.reached(self.read.get(), self.tally.lines);
        }
    }

    fn line(&mut self, bytes: &[u8], whole: bool, number: u64, reader: &mut Reader) -> Result<(), Fault> {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        if memchr::memchr(0, bytes).is_some() {
            return Err(Fault::Binary);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Binary)?;
        // A last line without a line feed may be one that is still being written.
        let cut_off = |fault| if whole || fault != Fault::Malformed { fault } else { Fault::Truncated };
        let record: Record<'_> = reader.read(text).map_err(cut_off)?;
        match self.classes.classify(&record) {
            Classed::Arrival(arrival, id) => {
                let from = self.names.len();
                self.names.push_str(record.account.as_deref().unwrap_or_default());
                let name = from..self.names.len();
                self.unplaced.push(Unplaced { line: number, at: record.at, arrival, id, name });
                Ok(())
            }
            Classed::Elsewhere => {
                self.tally.elsewhere += 1;
                Ok(())
            }
            Classed::BadPath => Err(Fault::Path),
        }
    }

    fn fault(&mut self, fault: Fault, place: usize, line: u64) -> Result<(), ReplayError> {
        if self.traces.strict {
            return Err(ReplayError::Fault { place: self.traces.place(place, line), fault });
        }
        if let Some(faults) = self.tally.faults.get_mut(fault as usize) {
            faults.count += 1;
            if faults.first.len() < FIRST_FAULTS {
                faults.first.push((place, line));
            }
        }
        Ok(())
    }
}
