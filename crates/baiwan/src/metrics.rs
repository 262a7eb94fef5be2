//! Metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics;
impl Metrics {
    pub(crate) fn render(&self) -> String {
        "# EOF\n".to_owned()
    }
    pub(crate) fn render_openmetrics(&self) -> String {
        "# EOF\n".to_owned()
    }
    pub(crate) fn top_clients(&self) -> (Vec<(std::net::IpAddr, u64)>, Vec<(std::net::IpAddr, u64)>) {
        Default::default()
    }
}
