//! Charts as SVG, to stand inside an HTML page: nothing outside is needed but [`STYLE`].
//!
//! A chart is as wide as its place allows. Axes begin and end at round figures; the title of a place under the pointer says the
//! figures there. What is not finite, or not above 0 on a logarithmic axis, is a gap in its line.

mod axis;

use std::fmt::Write;

pub use axis::{Axis, Scale};
use axis::{Span, mapped};

/// The style of charts, for a `<style>` element. Light and dark follow the reader's system.
pub const STYLE: &str = include_str!("plot/style.css");

/// Colours that [`STYLE`] has; further lines begin anew.
const COLOURS: usize = 5;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 38.0;
/// About how wide a letter is.
const LETTER: f64 = 6.2;

/// Lines over one axis.
#[derive(Clone, Debug)]
pub struct LineChart<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// To the right.
    pub x: Axis<'a>,
    /// Upwards.
    pub y: Axis<'a>,
    /// Names and points, in order of x.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// Places on the x axis that have a name: where something begins.
    pub marks: Vec<(f64, String)>,
}

/// Bars to the right, in groups.
#[derive(Clone, Debug)]
pub struct BarChart<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// Lengths; they begin at 0.
    pub axis: Axis<'a>,
    /// What the bars of each group are called, where there is more than one.
    pub names: Vec<&'a str>,
    /// A label and its bars, as many as there are names; one without names.
    pub groups: Vec<(String, Vec<f64>)>,
}

/// Text as it stands in HTML and SVG.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No document may have them, escaped or not.
            control if control.is_control() && !['\n', '\t'].contains(&control) => safe.push('\u{fffd}'),
            plain => safe.push(plain),
        }
    }
    safe
}

/// A chart with lines, as a `<figure>`.
pub fn line_chart(chart: &LineChart<'_>) -> String {
    let names: Vec<&str> = chart.lines.iter().map(|(name, _)| *name).collect();
    let mut svg = opening(chart.title, HEIGHT);
    let points = || chart.lines.iter().flat_map(|(_, points)| points.iter());
    let x = Span::of(chart.x.scale, points().map(|(x, _)| *x));
    let y = Span::of(chart.y.scale, points().map(|(_, y)| *y));
    match (x, y) {
        (Some(x), Some(y)) => {
            let last = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
            let plane = Plane { x: x.until(last), y };
            plane.grid(&mut svg, &chart.x, &chart.y);
            plane.marks(&mut svg, &chart.marks);
            for (index, (_, points)) in chart.lines.iter().enumerate() {
                let _ = write!(svg, r#"<path class="line c{}" d="{}"/>"#, index % COLOURS, plane.path(points));
            }
            plane.titles(&mut svg, chart);
        }
        _ => nothing(&mut svg),
    }
    figure(chart.title, &names, &svg)
}

/// A chart with bars, as a `<figure>`.
pub fn bar_chart(chart: &BarChart<'_>) -> String {
    const BAR: f64 = 16.0;
    const GAP: f64 = 10.0;
    let longest = chart.groups.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    let left = (longest as f64 * LETTER + 12.0).clamp(40.0, WIDTH * 0.4);
    let bars_all: usize = chart.groups.iter().map(|(_, bars)| bars.len()).sum();
    let below = TOP + bars_all as f64 * BAR + chart.groups.len() as f64 * GAP;
    let mut svg = opening(chart.title, below + BOTTOM);
    // The figure stands behind its bar.
    let right = WIDTH - 64.0;
    let Some(span) = Span::of(Scale::Linear, chart.groups.iter().flat_map(|(_, bars)| bars.iter().copied())) else {
        nothing(&mut svg);
        return figure(chart.title, &chart.names, &svg);
    };
    let place = |value: f64| left + span.place(value).unwrap_or_default() * (right - left);
    for tick in span.ticks() {
        let (x, text) = (place(tick), (chart.axis.text)(tick));
        let _ = write!(svg, r#"<path class="grid" d="M{x:.1} {TOP}V{below:.1}"/>"#);
        let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" class="middle">{}</text>"#, below + 15.0, escaped(&text));
    }
    let _ = write!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" class="middle">{}</text>"#,
        f64::midpoint(left, right),
        below + 31.0,
        escaped(chart.axis.title)
    );
    let mut y = TOP + GAP / 2.0;
    for (label, bars) in &chart.groups {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        let _ = write!(svg, r#"<text x="{:.1}" y="{middle:.1}" class="end">{}</text>"#, left - 6.0, escaped(label));
        for (index, value) in bars.iter().enumerate() {
            let (width, text) = ((place(*value) - left).max(0.5), escaped(&(chart.axis.text)(*value)));
            let name = chart.names.get(index).map(|name| format!(", {name}")).unwrap_or_default();
            let _ = write!(
                svg,
                r#"<rect class="bar c{}" x="{left:.1}" y="{:.1}" width="{width:.1}" height="{}"><title>{}{}: {text}</title></rect><text x="{:.1}" y="{:.1}">{text}</text>"#,
                index % COLOURS,
                y + 1.0,
                BAR - 2.0,
                escaped(label),
                escaped(&name),
                left + width + 4.0,
                y + 12.0,
            );
            y += BAR;
        }
        y += GAP;
    }
    figure(chart.title, &chart.names, &svg)
}

fn opening(title: &str, height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">"#, escaped(title))
}

fn nothing(svg: &mut String) {
    let _ = write!(svg, r#"<text x="{}" y="{}" class="middle">nothing was measured</text>"#, WIDTH / 2.0, HEIGHT / 3.0);
}

fn figure(title: &str, names: &[&str], svg: &str) -> String {
    let mut html = format!(r#"<figure class="chart"><figcaption>{}"#, escaped(title));
    if names.len() > 1 {
        html.push_str(r#"<span class="names">"#);
        for (index, name) in names.iter().enumerate() {
            let _ = write!(html, r#"<span class="name"><i class="c{}"></i>{}</span>"#, index % COLOURS, escaped(name));
        }
        html.push_str("</span>");
    }
    let _ = writeln!(html, "</figcaption>{svg}</svg></figure>");
    html
}

/// Where points lie in the picture.
struct Plane {
    x: Span,
    y: Span,
}

impl Plane {
    fn x(&self, value: f64) -> Option<f64> {
        self.x.place(value).map(|share| LEFT + share * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, value: f64) -> Option<f64> {
        self.y.place(value).map(|share| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))
    }

    fn grid(&self, svg: &mut String, x_axis: &Axis<'_>, y_axis: &Axis<'_>) {
        let (right, below) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (y, tick) in mapped(&self.y, |value| self.y(value)) {
            let text = escaped(&(y_axis.text)(tick));
            let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" class="end">{text}</text>"#, LEFT - 6.0, y + 4.0);
        }
        let mut free_from = 0.0;
        for (x, tick) in mapped(&self.x, |value| self.x(value)) {
            let text = (x_axis.text)(tick);
            let _ = write!(svg, r#"<path class="grid" d="M{x:.1} {below}v4"/>"#);
            let half = text.chars().count() as f64 * LETTER / 2.0;
            // The last may touch the edge, none may touch another.
            let x = x.min(WIDTH - half);
            if x - half >= free_from {
                let _ =
                    write!(svg, r#"<text x="{x:.1}" y="{}" class="middle">{}</text>"#, below + 16.0, escaped(&text));
                free_from = x + half + LETTER;
            }
        }
        let _ = write!(svg, r#"<path class="axis" d="M{LEFT} {TOP}V{below}H{right}"/>"#);
        let _ = write!(svg, r#"<text x="4" y="12">{}</text>"#, escaped(y_axis.title));
        let middle = f64::midpoint(LEFT, right);
        let _ =
            write!(svg, r#"<text x="{middle}" y="{}" class="middle">{}</text>"#, HEIGHT - 6.0, escaped(x_axis.title));
    }

    fn marks(&self, svg: &mut String, marks: &[(f64, String)]) {
        let places: Vec<(f64, &str)> = marks
            .iter()
            .filter_map(|(at, name)| Some((self.x(*at)?, name.as_str())))
            .filter(|(x, _)| (LEFT..=WIDTH - RIGHT).contains(x))
            .collect();
        for (index, (x, name)) in places.iter().enumerate() {
            let (below, name_safe) = (HEIGHT - BOTTOM, escaped(name));
            let _ = write!(svg, r#"<path class="mark" d="M{x:.1} {TOP}V{below}"><title>{name_safe}</title></path>"#);
            // A name that has no room before the next mark is left to the pointer.
            let end = x + 3.0 + name.chars().count() as f64 * LETTER;
            if end <= places.get(index + 1).map_or(WIDTH, |(next, _)| *next) {
                let _ = write!(svg, r#"<text class="mark" x="{:.1}" y="{}">{name_safe}</text>"#, x + 3.0, TOP - 3.0);
            }
        }
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        let mut drawing = false;
        for (x, y) in points {
            let (Some(x), Some(y)) = (self.x(*x), self.y(*y)) else {
                drawing = false;
                continue;
            };
            // A point that stands alone is a line of no length, which has round ends.
            let _ = match drawing {
                true => write!(path, "L{x:.1} {y:.1}"),
                false => write!(path, "M{x:.1} {y:.1}l0 0"),
            };
            drawing = true;
        }
        path
    }

    /// Strips that nobody sees, one for each place that has a point, with what is there.
    fn titles(&self, svg: &mut String, chart: &LineChart<'_>) {
        let mut places: Vec<f64> = chart.lines.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let middles: Vec<(f64, f64)> = places.iter().filter_map(|place| Some((*place, self.x(*place)?))).collect();
        for (index, (place, x)) in middles.iter().enumerate() {
            let begin = index.checked_sub(1).map_or(LEFT, |before| f64::midpoint(middles[before].1, *x));
            let end = middles.get(index + 1).map_or(WIDTH - RIGHT, |(_, after)| f64::midpoint(*x, *after));
            let mut title = format!("{} {}", (chart.x.text)(*place), chart.x.title);
            for (name, points) in &chart.lines {
                if let Some((_, value)) = points.iter().find(|(x, y)| x == place && self.y(*y).is_some()) {
                    let _ = write!(title, "\n{name}: {}", (chart.y.text)(*value));
                }
            }
            let _ = write!(
                svg,
                r#"<rect class="over" x="{begin:.1}" y="{TOP}" width="{:.1}" height="{}"><title>{}</title></rect>"#,
                end - begin,
                HEIGHT - TOP - BOTTOM,
                escaped(&title)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units;

    fn chart<'a>(scale: Scale, points: Vec<(f64, f64)>) -> LineChart<'a> {
        LineChart {
            title: "a < b",
            x: Axis { title: "seconds", scale: Scale::Linear, text: units::short },
            y: Axis { title: "latency", scale, text: units::time },
            lines: vec![("p<50", points)],
            marks: vec![(1.0, "hold & on".to_owned())],
        }
    }

    #[test]
    fn text_is_escaped_wherever_it_stands() {
        let svg = line_chart(&chart(Scale::Linear, vec![(0.0, 1.0), (2.0, 3.0)]));
        for part in ["a &lt; b", "p&lt;50: 3 s", "hold &amp; on"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("a < b") && !svg.contains("p<50"), "{svg}");
        assert_eq!(escaped("\"'\0\n"), "&quot;&#39;\u{fffd}\n");
    }

    #[test]
    fn a_line_runs_from_corner_to_corner() {
        let svg = line_chart(&chart(Scale::Linear, vec![(0.0, 0.0), (10.0, 4.0)]));
        let (right, below) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        assert!(svg.contains(&format!(r#"d="M{LEFT:.1} {below:.1}l0 0L{right:.1} {TOP:.1}""#)), "{svg}");
    }

    #[test]
    fn a_mark_outside_is_left_out_and_a_name_without_room_is_left_to_the_pointer() {
        let mut chart = chart(Scale::Linear, vec![(0.0, 0.0), (10.0, 4.0)]);
        chart.marks = [(0.0, "begin"), (0.1, "middle"), (9.0, "end"), (11.0, "outside")]
            .map(|(at, name)| (at, name.to_owned()))
            .into();
        let svg = line_chart(&chart);
        assert!(!svg.contains("outside") && !svg.contains(">begin</text>"), "{svg}");
        assert!(
            svg.contains("<title>begin</title>") && svg.contains(">middle</text>") && svg.contains(">end</text>"),
            "{svg}"
        );
    }

    #[test]
    fn what_cannot_be_drawn_is_a_gap() {
        let svg = line_chart(&chart(Scale::Logarithmic, vec![(0.0, 0.001), (1.0, 0.0), (2.0, 0.01), (3.0, f64::NAN)]));
        assert_eq!(svg.matches("l0 0").count(), 2, "two pieces: {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        for points in [Vec::new(), vec![(0.0, 0.0)]] {
            let svg = line_chart(&chart(Scale::Logarithmic, points));
            assert!(svg.contains("nothing was measured") && svg.ends_with("</svg></figure>\n"), "{svg}");
        }
        let axis = Axis { title: "µs", scale: Scale::Linear, text: units::short };
        let svg = bar_chart(&BarChart { title: "none", axis, names: Vec::new(), groups: Vec::new() });
        assert!(svg.contains("nothing was measured"), "{svg}");
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let axis = Axis { title: "µs", scale: Scale::Linear, text: units::short };
        let groups = vec![("one".to_owned(), vec![5.0, 10.0]), ("<two>".to_owned(), vec![0.0, 2.5])];
        let svg = bar_chart(&BarChart { title: "bars", axis, names: vec!["old", "new"], groups });
        let widths: Vec<f64> = svg
            .split(r#"<rect class="bar"#)
            .skip(1)
            .map(|rest| rest.split(r#"width=""#).nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[0] * 2.0 - widths[1]).abs() < 0.2 && (widths[3] * 4.0 - widths[1]).abs() < 0.5, "{widths:?}");
        assert!(svg.contains("&lt;two&gt;, new: 2.5"), "{svg}");
    }
}
