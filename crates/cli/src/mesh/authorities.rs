//! Whom a node is to believe when it asks a coordinator by https: a file of a person, read and tried before it is given to the node.

use crate::failure::Failure;
use std::{fs::File, io::Read as _, path::Path};

/// The longest that is read; the bundle of a whole system is a fifth of it.
const LONGEST: u64 = 1024 * 1024;

/// What is in the file, which names an authority at least.
///
/// # Errors
/// [`Failure`] when it can't be read, is too long, or nobody could be believed by it.
pub fn read_authorities(file: &Path) -> Result<Vec<u8>, Failure> {
    let shown = file.display();
    let read = || {
        let mut bytes = Vec::new();
        File::open(file)?.take(LONGEST.saturating_add(1)).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(Failure::usage(format!("{shown} is longer than any file of authorities")));
    }
    allod_mesh::tls::client_config(Some(file)).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_by_which_nobody_is_believed_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorities.pem");
        assert!(read_authorities(&file).unwrap_err().fault.message.contains("authorities.pem"));
        for bad in [&b""[..], b"nothing", &vec![b'x'; 1024 * 1024 + 1]] {
            std::fs::write(&file, bad).unwrap();
            assert!(read_authorities(&file).unwrap_err().fault.message.contains("authorities.pem"));
        }
    }
}
