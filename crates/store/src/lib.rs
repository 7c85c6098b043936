#![doc = include_str!("../README.md")]

pub mod atomic;
pub mod beneath;
pub mod disk;
pub mod error;
#[cfg(any(test, feature = "test-support"))]
pub mod fixtures;
pub mod format;
pub mod lock;
#[cfg(any(test, feature = "test-support"))]
pub mod power_cut;
pub mod reserve;
pub mod space;

pub use atomic::{
    create_folder, is_temporary, remove_file, remove_folder, settle, sweep_temporaries, sync_file_system,
    sync_folder, write_atomic, write_together, write_unsynced,
};
pub use beneath::{open_beneath, read_beneath};
pub use error::{Step, StoreError};
pub use format::{Format, load, save};
pub use lock::Lock;
pub use reserve::Reserve;
pub use space::free_bytes;
