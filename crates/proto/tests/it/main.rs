//! Messages of protocol versions that are spoken no more by this program but still understood, as they were recorded.

#[cfg(test)]
mod formats;
#[cfg(test)]
mod node;
#[cfg(test)]
mod version_1;
