//! The plan as a JSON document: what `plan --format json` prints and `plan --out` saves.
//!
//! The document is read again, and its digest names the plan. So its types stand with its reader, in
//! [`crate::plan::document`], which is below all that shows something.

use crate::plan::{Plan, document};

/// The plan as JSON that ends in a newline. Equal plans give equal bytes.
pub fn to_json(plan: &Plan) -> String {
    document::to_json(plan)
}
