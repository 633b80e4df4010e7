//! The configuration that applies to a request.

use hub::answer::Text;
use hub::outside::EvaluationFailed;
use hub::settings::{Location, Main, Template};

use super::outside::Hub;
use crate::nginx::Request;

impl hub::outside::Request for Request {
    #[inline]
    fn location(&self) -> &'static Location {
        &self.location_conf::<Hub>().settings
    }

    #[inline]
    fn main(&self) -> &'static Main {
        &self.main_conf::<Hub>().settings
    }

    fn evaluate(&self, template: Template) -> Result<Text, EvaluationFailed> {
        self.main_conf::<Hub>().templates[template.number].evaluate(*self)
    }
}
