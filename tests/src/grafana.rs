//! The Grafana dashboard, made of its source `docs/grafana/scaled.toml`: queries are spelled out,
//! panels get places, and everything else that Grafana wants is the same for all of them.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The newest shape of a dashboard that Grafana 10 and later read without changing it.
const SCHEMA_VERSION: u32 = 39;
const COLUMNS: u64 = 24;
const PANEL_HEIGHT: u64 = 7;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    title: String,
    uid: String,
    row: Vec<Row>,
    annotation: Vec<Annotation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    panel: Vec<Panel>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Line,
    Stat,
    State,
    Table,
    Heat,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    help: String,
    #[serde(default = "a_quarter")]
    width: u64,
    #[serde(default)]
    unit: Option<String>,
    max: Option<f64>,
    /// A limit; values from it on are red, or with `below` those under it.
    line: Option<f64>,
    #[serde(default)]
    below: bool,
    #[serde(default)]
    log: bool,
    #[serde(default)]
    stack: bool,
    /// What 0 and 1 mean.
    words: Option<[String; 2]>,
    /// `name`: a stat shows the legend, not the value.
    shows: Option<String>,
    /// Queries and legends.
    #[serde(default)]
    query: Vec<[String; 2]>,
    quantiles: Option<OneOrMany>,
    heat: Option<String>,
}

const fn a_quarter() -> u64 {
    6
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Quantiles),
    Many(Vec<Quantiles>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantiles {
    of: String,
    at: Vec<f64>,
    by: Option<String>,
    legend: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    name: String,
    color: String,
    expr: String,
    title: String,
    tags: String,
    /// The value is the time, in ms since 1970.
    #[serde(default)]
    at_value: bool,
}

/// The dashboard as Grafana imports it.
///
/// # Panics
/// The source is not as it should be.
pub fn dashboard(source: &str) -> Value {
    let source: Source = toml::from_str(source).expect("the dashboard's source");
    let mut places = Places::default();
    let mut panels = Vec::new();
    for row in &source.row {
        let (id, at) = places.row();
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "gridPos": at, "panels": []
        }));
        for panel in &row.panel {
            let (id, at) = places.panel(panel.width);
            panels.push(panel.render(id, at));
        }
    }
    json!({
        "title": source.title,
        "uid": source.uid,
        "tags": ["scaled"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": true,
        "timezone": "browser",
        "refresh": "5s",
        "time": { "from": "now-30m", "to": "now" },
        "graphTooltip": 1,
        "links": [],
        "templating": { "list": variables() },
        "annotations": { "list": source.annotation.iter().map(Annotation::render).collect::<Vec<_>>() },
        "panels": panels,
    })
}

/// Every query of a dashboard: of panels, variables and annotations.
pub fn queries(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![dashboard];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(list) => rest.extend(list),
            Value::Object(table) => {
                for (key, value) in table {
                    match value.as_str() {
                        Some("prometheus") => {}
                        Some(text) if key == "expr" || key == "query" => found.push(text.to_owned()),
                        _ => rest.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The metrics that a query names, without what a histogram adds: words with an underscore that are
/// neither a function, a label nor in quotes.
pub fn metrics(query: &str) -> BTreeSet<String> {
    const OTHERS: [&str; 7] = [
        "clamp_min",
        "group_left",
        "group_right",
        "histogram_quantile",
        "label_values",
        "max_over_time",
        "on",
    ];
    let bare: String = query.split('"').step_by(2).collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let words = bare.split(word).filter(|word| word.contains('_') && !word.starts_with('$'));
    let words = words.filter(|word| !OTHERS.contains(word));
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

/// A query as Prometheus takes it: with everything chosen, and `window` for the rate interval.
pub fn filled(query: &str, window: &str) -> String {
    let query = ["$instance", "$name", "$run", "$group"]
        .iter()
        .fold(query.to_owned(), |query, name| query.replace(name, ".*"));
    query.replace("$__rate_interval", window)
}

/// Where panels go: from left to right, then down.
#[derive(Debug, Default)]
struct Places {
    id: u64,
    x: u64,
    y: u64,
    is_begun: bool,
}

impl Places {
    fn next_id(&mut self) -> u64 {
        self.id += 1;
        self.id
    }

    fn row(&mut self) -> (u64, Value) {
        if std::mem::take(&mut self.is_begun) {
            self.y += PANEL_HEIGHT;
        }
        let at = json!({ "x": 0, "y": self.y, "w": COLUMNS, "h": 1 });
        (self.x, self.y) = (0, self.y + 1);
        (self.next_id(), at)
    }

    fn panel(&mut self, width: u64) -> (u64, Value) {
        if self.x + width > COLUMNS {
            (self.x, self.y) = (0, self.y + PANEL_HEIGHT);
        }
        let at = json!({ "x": self.x, "y": self.y, "w": width, "h": PANEL_HEIGHT });
        self.x += width;
        self.is_begun = true;
        (self.next_id(), at)
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variables() -> Vec<Value> {
    let label = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "type": "query", "label": label, "datasource": datasource(),
            "query": { "query": query, "refId": name }, "refresh": 2, "sort": 1, "includeAll": true,
            "allValue": ".*", "multi": true, "current": { "text": "All", "value": "$__all" },
        })
    };
    vec![
        json!({ "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus" }),
        label("instance", "Load host", "label_values(scaled_build_info, instance)"),
        label("name", "Name", r#"label_values(scaled_run_info{instance=~"$instance"}, name)"#),
        label("run", "Run", r#"label_values(scaled_run_info{instance=~"$instance",name=~"$name"}, run)"#),
        label("group", "Group", r#"label_values(scaled_streams{instance=~"$instance"}, group)"#),
    ]
}

/// A query spelled out.
fn spelled(query: &str) -> String {
    query
        .replace("@run", "and on (job, instance) scaled_run_info{@,@which}")
        .replace("@which", r#"run=~"$run",name=~"$name""#)
        .replace("@group", r#"group=~"$group""#)
        .replace("[@]", "[$__rate_interval]")
        .replace('@', r#"instance=~"$instance""#)
}

impl Quantiles {
    /// Native histograms where there are any, else classic ones.
    fn queries(&self) -> Vec<[String; 2]> {
        let Self { of, at, by, legend } = self;
        let (native, classic, group) = match by {
            None => (String::new(), "by (le) ".to_owned(), ""),
            Some(by) => (format!("by ({by}) "), format!("by (le, {by}) "), ",@group"),
        };
        let one = |at: &f64| {
            let legend = match (legend, by) {
                (Some(legend), _) => legend.clone(),
                (None, Some(by)) => format!("{{{{{by}}}}}"),
                (None, None) if *at >= 1.0 => "longest".to_owned(),
                (None, None) => format!("p{:0<2}", at.to_string().trim_start_matches("0.")),
            };
            let query = format!(
                "histogram_quantile({at}, sum {native}(rate({of}{{@{group}}}[@]) @run)) or histogram_quantile({at}, sum {classic}(rate({of}_bucket{{@{group}}}[@]) @run))"
            );
            [query, legend]
        };
        at.iter().map(one).collect()
    }
}

impl Panel {
    fn queries(&self) -> Vec<[String; 2]> {
        let mut queries = self.query.clone();
        match &self.quantiles {
            Some(OneOrMany::One(quantiles)) => queries.extend(quantiles.queries()),
            Some(OneOrMany::Many(many)) => queries.extend(many.iter().flat_map(Quantiles::queries)),
            None => {}
        }
        if let Some(of) = &self.heat {
            let query = format!(
                "sum (increase({of}{{@}}[@]) @run) or on () sum by (le) (increase({of}_bucket{{@}}[@]) @run)"
            );
            queries.push([query, "{{le}}".to_owned()]);
        }
        queries
    }

    fn render(&self, id: u64, at: Value) -> Value {
        let kind = match self.kind {
            Kind::Line => "timeseries",
            Kind::Stat => "stat",
            Kind::State => "state-timeline",
            Kind::Table => "table",
            Kind::Heat => "heatmap",
        };
        let targets: Vec<Value> =
            self.queries().into_iter().zip('A'..).map(|(query, id)| self.target(query, id)).collect();
        assert!(!targets.is_empty(), "{} shows nothing", self.title);
        json!({
            "id": id, "type": kind, "title": self.title, "description": self.help, "datasource": datasource(),
            "gridPos": at, "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "options": self.options(), "targets": targets,
        })
    }

    fn target(&self, [query, legend]: [String; 2], id: char) -> Value {
        let is_table = self.kind == Kind::Table;
        let format = match self.kind {
            Kind::Heat => "heatmap",
            Kind::Table => "table",
            _ => "time_series",
        };
        json!({
            "refId": id, "datasource": datasource(), "expr": spelled(&query), "legendFormat": legend,
            "format": format, "range": !is_table, "instant": is_table,
        })
    }

    fn defaults(&self) -> Value {
        let mut defaults = Map::new();
        if let Some(unit) = &self.unit {
            defaults.insert("unit".into(), json!(unit));
        }
        if matches!(self.kind, Kind::Line) && !self.log {
            defaults.insert("min".into(), json!(0));
        }
        if let Some(max) = self.max {
            defaults.insert("max".into(), json!(max));
        }
        let steps = match self.line {
            None => json!([{ "color": "blue", "value": null }]),
            Some(line) if self.below => {
                json!([{ "color": "red", "value": null }, { "color": "green", "value": line }])
            }
            Some(line) => json!([{ "color": "green", "value": null }, { "color": "red", "value": line }]),
        };
        defaults.insert("thresholds".into(), json!({ "mode": "absolute", "steps": steps }));
        if let Some([zero, one]) = &self.words {
            let words =
                json!([{ "type": "value", "options": { "0": { "text": zero }, "1": { "text": one } } }]);
            defaults.insert("mappings".into(), words);
        }
        if self.kind == Kind::State {
            defaults.insert("color".into(), json!({ "mode": "thresholds" }));
        }
        if self.kind == Kind::Line {
            defaults.insert("custom".into(), self.lines());
        }
        Value::Object(defaults)
    }

    fn lines(&self) -> Value {
        let scale = if self.log { json!({ "type": "log", "log": 10 }) } else { json!({ "type": "linear" }) };
        json!({
            "lineWidth": 1,
            "fillOpacity": if self.stack { 40 } else { 10 },
            "showPoints": "never",
            "spanNulls": false,
            "scaleDistribution": scale,
            "stacking": { "mode": if self.stack { "normal" } else { "none" }, "group": "A" },
            "thresholdsStyle": { "mode": if self.line.is_some() { "line" } else { "off" } },
        })
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Line => json!({
                "legend": { "showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "background", "graphMode": "none",
                "textMode": self.shows.as_deref().unwrap_or("auto"),
            }),
            Kind::State => json!({
                "mergeValues": true, "showValue": "auto", "rowHeight": 0.9,
                "legend": { "showLegend": false, "displayMode": "list", "placement": "bottom" },
                "tooltip": { "mode": "single", "sort": "none" },
            }),
            Kind::Table => json!({ "showHeader": true }),
            Kind::Heat => json!({
                "calculate": false,
                "yAxis": { "unit": "s", "axisPlacement": "left", "reverse": false },
                "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "reverse": false, "fill": "dark-orange", "scale": "exponential" },
                "rowsFrame": { "layout": "auto" },
                "cellGap": 1, "filterValues": { "le": 1e-9 }, "showValue": "never",
                "legend": { "show": true }, "exemplars": { "color": "rgba(255,0,255,0.7)" },
                "tooltip": { "mode": "single", "yHistogram": true, "showColorScale": false },
            }),
        }
    }
}

impl Annotation {
    fn render(&self) -> Value {
        json!({
            "name": self.name, "enable": true, "iconColor": self.color, "datasource": datasource(),
            "expr": spelled(&self.expr), "step": "5s", "titleFormat": self.title, "tagKeys": self.tags,
            "useValueForTime": self.at_value,
        })
    }
}
