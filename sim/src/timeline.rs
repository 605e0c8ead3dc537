//! What happened to each vector over time, for the page of `--timeline` and the trace of `--perfetto`.

mod lanes;
mod page;
mod perfetto;

pub(crate) use lanes::{Band, Mark, Moment, Shown};
pub use lanes::{MAX_ITEMS, Timeline};
pub use page::render;
pub use perfetto::perfetto;
