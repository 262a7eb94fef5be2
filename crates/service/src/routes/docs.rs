//! `/docs`: Swagger UI on the API's description, without the internet.
//!
//! Swagger UI is vendored as its makers built it, packed with gzip; `docs/README.md` says how. The page around it is ours: it
//! follows the reader's choice of light or dark, fits a phone, and lets nothing run or be asked for but what this server has.

use bytes::Bytes;

use super::fixed::Fixed;

/// Swagger UI sets the style of single elements, and its pictures are in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// `/docs`
pub(super) static PAGE: Fixed = Fixed::page(POLICY, || Bytes::from_static(include_bytes!("docs/index.html")));
/// `/docs/init.js`
pub(super) static START: Fixed = Fixed::new(SCRIPT, || Bytes::from_static(include_bytes!("docs/init.js")));
/// `/docs/page.css`
pub(super) static LOOK: Fixed = Fixed::new(STYLE, || Bytes::from_static(include_bytes!("docs/page.css")));
/// `/docs/swagger-ui-bundle.js`
pub(super) static SWAGGER_UI: Fixed = Fixed::packed(SCRIPT, include_bytes!("docs/swagger-ui-bundle.js.gz"));
/// `/docs/swagger-ui.css`
pub(super) static SWAGGER_UI_LOOK: Fixed = Fixed::packed(STYLE, include_bytes!("docs/swagger-ui.css.gz"));
