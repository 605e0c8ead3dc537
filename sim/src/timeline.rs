//! What happened to each vector over time, for the page of `--timeline`.

mod lanes;
mod page;

pub(crate) use lanes::{Band, Mark, Moment, Shown};
pub use lanes::{MAX_ITEMS, Timeline};
pub use page::render;
