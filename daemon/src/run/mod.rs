//! The life of one run: [`plan`] what it will do, [`targets`] what it may hit, [`supervisor`]
//! while it goes, [`result`] and [`histograms`] what it came to, [`store`] what is kept of it.

pub mod histograms;
pub mod plan;
pub mod result;
pub mod store;
pub mod supervisor;
pub mod targets;
