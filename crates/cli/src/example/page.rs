//! The example app's page: one document, no scripts; each version has a colour of its own.

use super::Surroundings;

/// The page of the `visit`th visit.
pub(super) fn render(surroundings: &Surroundings, visit: u64) -> String {
    let hue = hue(&surroundings.version);
    let (version, instance) = (escape(&surroundings.version), escape(&surroundings.instance));
    let release = escape(&surroundings.release);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>hello {version}</title><style>\
         :root{{color-scheme:light dark}}body{{margin:0;min-height:100vh;display:grid;place-items:center;\
         font:18px/1.5 system-ui,sans-serif;background:hsl({hue} 45% 94%);color:hsl({hue} 60% 18%)}}\
         main{{padding:2rem 2.6rem;border-left:.5rem solid hsl({hue} 60% 45%)}}\
         h1{{font-size:3.2rem;line-height:1;margin:0 0 1rem}}dl{{display:grid;grid-template-columns:auto 1fr;\
         gap:.1rem 1rem;margin:0}}dt{{opacity:.65}}dd{{margin:0;font-variant-numeric:tabular-nums}}\
         @media(prefers-color-scheme:dark){{body{{background:hsl({hue} 30% 12%);color:hsl({hue} 45% 86%)}}}}\
         </style></head><body><main><h1>Hello, {version}</h1><dl><dt>instance</dt><dd>{instance}</dd>\
         <dt>release</dt><dd>{release}</dd><dt>visit</dt><dd>{visit}</dd></dl></main></body></html>\n"
    )
}

fn hue(version: &str) -> u32 {
    let sum = version.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    // Multiples of the golden angle lie far apart, so neighbouring versions look different.
    sum.wrapping_mul(137) % 360
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_text_and_not_markup() {
        let surroundings = Surroundings {
            address: ([127, 0, 0, 1], 1).into(),
            version: "<b>v1".to_owned(),
            instance: "web-1".to_owned(),
            release: "r".to_owned(),
        };
        let page = render(&surroundings, 3);
        assert!(!page.contains("<b>") && page.contains("Hello, &lt;b&gt;v1"));
        assert!(page.contains("<dd>3</dd>"));
    }

    #[test]
    fn neighbouring_versions_have_colours_far_apart() {
        let apart = hue("v1").abs_diff(hue("v2"));
        assert!(apart.min(360 - apart) > 60, "{apart}");
    }
}
