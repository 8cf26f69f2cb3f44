//! Where the parts of a head stand, as the scanner has found them: whoever makes a request of it need not search again.

use super::field::Field;
use super::known::Known;
use std::ops::Range;

/// Fields whose places are noted, which is all of most requests. Each takes ten bytes of a connection.
const MOST: usize = 16;

/// The places of a head that has passed, from its first byte on. Overwritten by the next one.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Places {
    pub(in crate::server) method: Range<usize>,
    pub(in crate::server) target: Range<usize>,
    pub(in crate::server) is_http11: bool,
    fields: [FieldPlaces; MOST],
    count: usize,
    /// Where the line after the request line begins, and after the last noted field.
    rest: usize,
}

/// The places of one field.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct FieldPlaces {
    name: [u16; 2],
    value: [u16; 2],
    pub(in crate::server) known: Option<Known>,
}

impl FieldPlaces {
    pub(in crate::server) fn name(&self) -> Range<usize> {
        usize::from(self.name[0])..usize::from(self.name[1])
    }

    /// Without the blanks around it.
    pub(in crate::server) fn value(&self) -> Range<usize> {
        usize::from(self.value[0])..usize::from(self.value[1])
    }
}

impl Places {
    /// The request line is known, `rest` begins behind it.
    pub(super) fn begin(&mut self, method: Range<usize>, target: Range<usize>, is_http11: bool, rest: usize) {
        (self.method, self.target, self.is_http11) = (method, target, is_http11);
        (self.count, self.rest) = (0, rest);
    }

    /// Notes the field of the line from `start` on, with the next line at `rest`. It is left out, and all that follow, where there are too many or the head is too
    /// long.
    pub(super) fn note(&mut self, field: &Field<'_>, start: usize, rest: usize) {
        if u16::try_from(rest).is_err() {
            return;
        }
        let Some(place) = self.fields.get_mut(self.count) else { return };
        // What is below `rest` fits.
        let at = |offset: usize| (start + offset) as u16;
        let name = [at(0), at(field.name.len())];
        *place = FieldPlaces { name, value: [at(field.place.start), at(field.place.end)], known: field.known };
        self.count += 1;
        self.rest = rest;
    }

    /// The first fields, in their order.
    pub(in crate::server) fn fields(&self) -> &[FieldPlaces] {
        self.fields.get(..self.count).unwrap_or_default()
    }

    /// Where the first line begins whose place is not noted: another field, or the end of the head.
    pub(in crate::server) fn rest(&self) -> usize {
        self.rest
    }
}
