//! What the event loop is told by the service: at the start, and when its settings have changed.

use std::os::fd::OwnedFd;

use baiwan::settings::Settings;
use baiwan::{AccessLogFormat, Builder, Server};

use crate::config::{Config, LogFormat};
use crate::routes::JSON_BODY_MAX;

/// A server of `settings`, which are those of `config`, or what is left of them for the event loop; on `sockets`, unless there are none.
pub(crate) fn of(config: &Config, mut settings: Settings, sockets: Vec<OwnedFd>) -> Builder {
    settings.access_log = settings.access_log.format(match config.log_format {
        LogFormat::Auto => AccessLogFormat::Auto,
        LogFormat::Json => AccessLogFormat::Json,
        LogFormat::Text => AccessLogFormat::Text,
    });
    let builder = Server::from_settings_on(settings, sockets).buffered_body_limit(JSON_BODY_MAX).request_ids(true);
    builder.refusal_cors(config.cors_origins.for_refusals())
}
