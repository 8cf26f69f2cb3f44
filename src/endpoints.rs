//! FLOOR 1: which endpoint a method and a path are: templates in a trie of segments.
//!
//! At each level a static segment beats a parameter, and a branch that dead-ends is given up for the next best:
//!
//! 1. the static segment that is the request's to the letter,
//! 2. static segments that differ in case only: a case-variant of a known endpoint gets that endpoint's limits,
//! 3. the parameter, which is exactly one non-empty segment.
//!
//! Segments are compared fully percent-decoded, without their `;parameters`; a trailing slash is looked past, and so is a
//! segment of nothing but `;parameters`. A template without such letters is therefore found under every disguise that a server
//! might see through. `HEAD` is answered from `GET`'s template, unless it has one of its own.
//!
//! A node of the trie is visited at most once per look-up and none is deeper than [`MAX_TEMPLATE_SEGMENTS`], so a path of
//! thousands of segments is a cheap miss. Looking up allocates nothing.

mod segment;
mod template;

pub use template::{MAX_PARAMETERS, MAX_TEMPLATE_SEGMENTS, Template, TemplateError};

use crate::engine::EndpointId;
use crate::path::{self, CanonicalPath};
use http::Method;
use segment::Piece;
pub(crate) use segment::fold_bytes;
use std::borrow::Cow;
use template::Segment;

/// The templates of a configuration and what each stands for.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    root: Node,
}

/// One segment deep in the trie.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The folds of the static children, see [`segment::fold`]; ascending. Apart from the children, so that a search touches
    /// little memory.
    folds: Vec<u64>,
    /// The static children in the order of their folds and, where those are equal, of their bytes.
    statics: Vec<(Box<[u8]>, Node)>,
    parameter: Option<Box<Node>>,
    /// The templates that end here. A handful at most, so a list is faster than a map.
    ends: Vec<(Method, EndpointId)>,
}

/// An endpoint with the values of its template's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Found<'p> {
    endpoint: EndpointId,
    /// As they stand in the path: escaped, without `;parameters`. The first `count` are set.
    values: [&'p str; MAX_PARAMETERS],
    count: usize,
}

impl<'p> Found<'p> {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The value of the template's parameter number `index`, in the order of [`Template::names`]: percent-decoded, without
    /// `;parameters`. Allocates only for a value that has an escape.
    #[must_use]
    pub fn param(&self, index: usize) -> Option<Cow<'p, str>> {
        let value = self.values.get(..self.count)?.get(index).copied()?;
        if !value.contains('%') {
            return Some(Cow::Borrowed(value));
        }
        let bytes: Vec<u8> = path::decoded(value).collect();
        Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl Endpoints {
    /// Adds a template that stands for `id`.
    ///
    /// # Errors
    /// The id that already has this shape: the same method and the same segments, whatever the parameters are called.
    pub fn insert(&mut self, template: &Template, id: EndpointId) -> Result<(), EndpointId> {
        let mut node = &mut self.root;
        for segment in template.segments() {
            node = match segment {
                Segment::Static(bytes) => node.static_child(bytes),
                Segment::Parameter => node.parameter.get_or_insert_default(),
            };
        }
        if let Some(&(_, taken)) = node.ends.iter().find(|(method, _)| method == template.method()) {
            return Err(taken);
        }
        node.ends.push((template.method().clone(), id));
        Ok(())
    }

    /// The endpoint of a request, or `None` for one that no template covers.
    #[must_use]
    pub fn find<'p>(&self, method: &Method, path: &'p CanonicalPath<'_>) -> Option<Found<'p>> {
        let mut search = Search { method, values: [""; MAX_PARAMETERS], count: 0 };
        let endpoint = search.descend(&self.root, path.as_str())?;
        Some(Found { endpoint, values: search.values, count: search.count })
    }
}

impl Node {
    fn static_child(&mut self, name: &[u8]) -> &mut Node {
        let fold = segment::fold(name.iter().copied());
        let known = self.folds.iter().zip(&self.statics).map(|(fold, (name, _))| (*fold, &**name));
        let before = known.take_while(|&child| child < (fold, name)).count();
        if self.statics.get(before).is_none_or(|(known, _)| **known != *name) {
            self.folds.insert(before, fold);
            self.statics.insert(before, (name.into(), Node::default()));
        }
        &mut self.statics[before].1
    }

    /// The static children that may be `piece`, in whatever case: none or one, hardly ever more.
    fn alike(&self, piece: &Piece<'_>) -> &[(Box<[u8]>, Node)] {
        if self.folds.is_empty() {
            return &[];
        }
        let fold = piece.fold();
        let start = self.folds.partition_point(|&known| known < fold);
        let same = self.folds.get(start..).unwrap_or_default().iter().take_while(|&&known| known == fold).count();
        self.statics.get(start..start + same).unwrap_or_default()
    }

    fn end(&self, method: &Method) -> Option<EndpointId> {
        let of = |wanted: &Method| self.ends.iter().find(|(method, _)| method == wanted).map(|&(_, id)| id);
        of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None })
    }
}

/// One look-up under way.
struct Search<'s, 'p> {
    method: &'s Method,
    values: [&'p str; MAX_PARAMETERS],
    count: usize,
}

impl<'p> Search<'_, 'p> {
    /// Finds the best template below `node` for the rest of the path. Recurses once per level of the trie, never per segment
    /// of the path.
    fn descend(&mut self, node: &Node, rest: &'p str) -> Option<EndpointId> {
        let Some((piece, rest)) = segment::next(rest) else { return node.end(self.method) };
        let alike = node.alike(&piece);
        for to_the_letter in [true, false] {
            for (name, child) in alike {
                if piece.is(name) == to_the_letter
                    && (to_the_letter || piece.is_in_any_case(name))
                    && let Some(id) = self.descend(child, rest)
                {
                    return Some(id);
                }
            }
        }
        self.descend_parameter(node.parameter.as_deref()?, piece.text(), rest)
    }

    fn descend_parameter(&mut self, child: &Node, segment: &'p str, rest: &'p str) -> Option<EndpointId> {
        // A template has at most as many parameters as there is room for.
        *self.values.get_mut(self.count)? = segment;
        self.count += 1;
        let found = self.descend(child, rest);
        if found.is_none() {
            self.count -= 1;
        }
        found
    }
}

/// Whether the name of an endpoint fits a glob, in which `*` stands for any characters, or none, slashes among them; everything
/// else stands for itself. Takes time in proportion to the product of both lengths at worst.
#[must_use]
pub fn glob_matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stands and how far its text reaches: the only place worth going back to.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        if glob.get(at) == Some(&b'*') {
            star = Some((at, in_name));
            at += 1;
        } else if glob.get(at) == name.get(in_name) {
            at += 1;
            in_name += 1;
        } else if let Some((star_at, reach)) = star {
            star = Some((star_at, reach + 1));
            at = star_at + 1;
            in_name = reach + 1;
        } else {
            return false;
        }
    }
    glob.iter().skip(at).all(|&sign| sign == b'*')
}

#[cfg(test)]
mod tests;
