//! The page's place for data: `scaled` makes the page, `scalectl` puts into it what it compares.

/// Where a page without data has its place for some. It is there once.
const PLACE: &str = r#"<script type="application/json" id="data">null</script>"#;

/// `shell` with `json` in its place for data, where no text within can end the script
/// (HTML, "restrictions for contents of script elements"). `None`: it has no such place.
pub fn fill(shell: &str, json: &str) -> Option<String> {
    let (before, after) = shell.split_once(PLACE)?;
    let (open, close) = PLACE.split_once("null")?;
    // In JSON, `<` stands within texts alone.
    Some([before, open, &json.replace('<', "\\u003c"), close, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_back_as_it_was_and_cannot_end_its_script() {
        let name = "</script><script>alert(1)</script><!--";
        let json = serde_json::to_string(name).unwrap();
        let page = fill(&format!("<p>{PLACE}</p>"), &json).unwrap();
        let inside = page.strip_prefix("<p><script type=\"application/json\" id=\"data\">").unwrap();
        let inside = inside.strip_suffix("</script></p>").unwrap();
        assert!(!inside.contains('<'));
        assert_eq!(serde_json::from_str::<String>(inside).unwrap(), name);
    }

    #[test]
    fn what_is_no_shell_is_not_filled() {
        assert_eq!(fill("<p></p>", "1"), None);
    }
}
