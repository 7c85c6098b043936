//! Opens files below a folder. The kernel refuses a path that leaves it, by `..`, by a link or by a magic link.

use super::target::Wanted;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// A file to answer with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) length: u64,
    /// Seconds since 1970.
    pub(crate) modified: u64,
    pub(crate) content_type: &'static str,
    pub(crate) encoding: Option<&'static str>,
    /// Whether another client may get another encoding.
    pub(crate) has_variants: bool,
}

impl Opened {
    /// What tells its ETag from those of its other encodings.
    pub(crate) fn tag(&self) -> &'static str {
        match self.encoding {
            Some("br") => "-br",
            Some(_) => "-gz",
            None => "",
        }
    }
}

/// What there is under a path.
#[derive(Debug)]
pub(crate) enum Found {
    File(Opened),
    /// A folder with an index, asked for without the final slash.
    Folder,
    Nothing,
}

/// Finds the file for a path, its precompressed form if the client takes one, or the fallback.
pub(crate) fn find(
    root: &Path,
    wanted: &Wanted,
    fallback: Option<&Path>,
    encodings: &[&'static str],
) -> io::Result<Found> {
    let folder = openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH, Mode::empty())?;
    let index = wanted.path.join("index.html");
    let path = if wanted.is_folder { &index } else { &wanted.path };
    if let Some(opened) = open_best(&folder, path, encodings)? {
        return Ok(Found::File(opened));
    }
    if !wanted.is_folder && beneath(&folder, &index)?.is_some_and(|(_, stat)| is_file(&stat)) {
        return Ok(Found::Folder);
    }
    match fallback {
        Some(fallback) => Ok(open_best(&folder, fallback, encodings)?.map_or(Found::Nothing, Found::File)),
        None => Ok(Found::Nothing),
    }
}

fn open_best(folder: &OwnedFd, path: &Path, encodings: &[&'static str]) -> io::Result<Option<Opened>> {
    let Some((plain, stat)) = beneath(folder, path)?.filter(|(_, stat)| is_file(stat)) else {
        return Ok(None);
    };
    let mut has_variants = false;
    let mut best = (plain, stat, None);
    for (encoding, suffix) in [("gzip", ".gz"), ("br", ".br")] {
        let mut variant = path.as_os_str().to_owned();
        variant.push(suffix);
        if let Some((file, stat)) =
            beneath(folder, &PathBuf::from(variant))?.filter(|(_, stat)| is_file(stat))
        {
            has_variants = true;
            if encodings.contains(&encoding) {
                best = (file, stat, Some(encoding));
            }
        }
    }
    let (file, stat, encoding) = best;
    Ok(Some(Opened {
        file: File::from(file),
        length: u64::try_from(stat.st_size).unwrap_or(0),
        modified: u64::try_from(stat.st_mtime).unwrap_or(0),
        content_type: content_type(path),
        encoding,
        has_variants,
    }))
}

/// Opens what is there; `None` if nothing is, or if it lies outside.
fn beneath(folder: impl AsFd, path: &Path) -> io::Result<Option<(OwnedFd, Stat)>> {
    // Without NONBLOCK a named pipe would hold the thread until somebody writes.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(folder, path, flags, Mode::empty(), resolve) {
        Ok(file) => {
            let stat = fstat(&file)?;
            Ok(Some((file, stat)))
        }
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::XDEV
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::ACCESS
            | Errno::NXIO,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn content_type(path: &Path) -> &'static str {
    let extension =
        path.extension().and_then(|ext| ext.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "text/xml; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "atom" => "application/atom+xml",
        "rss" => "application/rss+xml",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "apng" => "image/apng",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "ogg" | "oga" => "audio/ogg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "m4a" => "audio/mp4",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "ogv" => "video/ogg",
        "mov" => "video/quicktime",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "tar" => "application/x-tar",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn site() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(folder.path().join("secret"), "no").unwrap();
        std::fs::write(root.join("index.html"), "<p>").unwrap();
        std::fs::write(root.join("sub/index.html"), "<p>sub").unwrap();
        std::fs::write(root.join("a.js"), "plain").unwrap();
        std::fs::write(root.join("a.js.br"), "brotli").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        symlink("a.js", root.join("in")).unwrap();
        folder
    }

    fn find_in(
        folder: &tempfile::TempDir,
        path: &str,
        fallback: Option<&str>,
        encodings: &[&'static str],
    ) -> Found {
        let wanted = super::super::target::parse(path).unwrap();
        find(&folder.path().join("root"), &wanted, fallback.map(Path::new), encodings).unwrap()
    }

    #[test]
    fn a_link_out_of_the_folder_leads_nowhere() {
        let folder = site();
        for path in ["/out", "/up/secret", "/up/", "/sub/nothing", "/a.js/x"] {
            assert!(matches!(find_in(&folder, path, None, &[]), Found::Nothing), "{path}");
        }
        assert!(matches!(find_in(&folder, "/x", Some("../secret"), &[]), Found::Nothing));
    }

    #[test]
    fn a_named_pipe_is_not_served_and_does_not_hang() {
        let folder = site();
        let pipe = folder.path().join("root/pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(find_in(&folder, "/pipe", None, &[]), Found::Nothing));
    }

    #[test]
    fn files_indexes_and_links_within_are_found() {
        let folder = site();
        assert!(matches!(find_in(&folder, "/", None, &[]), Found::File(f) if f.length == 3));
        assert!(matches!(find_in(&folder, "/in", None, &[]), Found::File(f) if f.length == 5));
        assert!(matches!(find_in(&folder, "/sub", None, &[]), Found::Folder));
        assert!(
            matches!(find_in(&folder, "/app/route", Some("index.html"), &[]), Found::File(f) if f.length == 3)
        );
    }

    #[test]
    fn a_precompressed_form_is_chosen_only_when_taken() {
        let folder = site();
        let Found::File(plain) = find_in(&folder, "/a.js", None, &["gzip"]) else { panic!("not found") };
        assert_eq!((plain.encoding, plain.has_variants, plain.length), (None, true, 5));
        let Found::File(best) = find_in(&folder, "/a.js", None, &["br", "gzip"]) else { panic!("not found") };
        assert_eq!((best.encoding, best.content_type), (Some("br"), "text/javascript; charset=utf-8"));
    }
}
