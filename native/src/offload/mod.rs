//! Superframes, as pure bytes: cut one for the wire ([`segment`]), tell what arrived ([`received`]), and join what arrived in
//! pieces ([`coalesce`]). Never sees a file descriptor, keeps no frame: everything is ranges of memory that the caller owns.

pub mod coalesce;
mod layers;
pub mod received;
pub mod segment;

#[cfg(test)]
mod bare_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod round_trip;
