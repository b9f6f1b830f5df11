//! Who says something, and whose word counts.

use crate::control::error::RpcError;

/// Who said it; stronger ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `vtepd fdb`, `vtepd neigh`.
    Hand,
    /// Leases in etcd.
    Etcd,
    /// The file datastore.
    File,
    /// Received frames.
    Learned,
}

impl Source {
    /// The name that travels.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Hand => "hand",
            Source::Etcd => "etcd",
            Source::File => "file",
            Source::Learned => "learned",
        }
    }

    /// A source that whole tables may come from.
    pub fn datastore(name: &str) -> Result<Self, RpcError> {
        match name {
            "etcd" => Ok(Source::Etcd),
            "file" => Ok(Source::File),
            _ => Err(RpcError::new("EINVAL", format!("source '{name}' is not a datastore (etcd, file)"))),
        }
    }
}

/// Values of one key by source, strongest first.
#[derive(Clone, Debug)]
pub(super) struct Layered<T>(pub(super) Vec<(Source, T)>);

impl<T: PartialEq> Layered<T> {
    pub(super) fn get(&self, source: Source) -> Option<&T> {
        self.0.iter().find(|(held, _)| *held == source).map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, source: Source, value: T) -> Option<T> {
        match self.0.iter_mut().find(|(held, _)| *held == source) {
            Some((_, held)) => Some(std::mem::replace(held, value)),
            None => {
                self.0.push((source, value));
                self.0.sort_by_key(|(held, _)| *held);
                None
            }
        }
    }

    /// True if no other source has a value.
    pub(super) fn is_only(&self, source: Source) -> bool {
        matches!(self.0.as_slice(), [(only, _)] if *only == source)
    }

    pub(super) fn remove(&mut self, source: Source) -> Option<T> {
        let position = self.0.iter().position(|(held, _)| *held == source)?;
        Some(self.0.remove(position).1)
    }
}
