//! What an alert says of the recipe that made it, and the score that follows from it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// The part of a recipe that alerts show. One is made when the recipe is loaded and shared by
/// all of its alerts.
#[derive(Clone, Debug, Default)]
pub struct RecipeFacts {
    /// The event's class (`kind` of the recipe).
    pub kind: Arc<str>,
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub description: Arc<str>,
    pub documentation: Option<Arc<str>>,
    pub tactic: Option<Named>,
    pub technique: Option<Named>,
    pub subtechnique: Option<Named>,
    pub importance: Importance,
    /// 0 to 100; that of the importance where the recipe gives none.
    pub severity: Option<u8>,
    /// 0.0 to 1.0; 1.0 where the recipe gives none.
    pub confidence: Option<f64>,
}

/// An entry of MITRE ATT&CK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// In snake case, as recipes write it: `unix_shell`.
    pub name: Arc<str>,
    /// `T1059.004`, `TA0002`; empty where the name is in no table.
    pub id: Arc<str>,
}

/// How much a recipe's author thinks that its matches matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    #[default]
    Low,
    Medium,
    High,
    Critical,
}

impl Importance {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity that stands for the whole level.
    pub const fn severity(self) -> u8 {
        match self {
            Self::Low => 15,
            Self::Medium => 45,
            Self::High => 75,
            Self::Critical => 90,
        }
    }

    /// The level of a severity; none for 0.
    pub const fn of_severity(severity: u8) -> Option<Self> {
        match severity {
            0 => None,
            1..=29 => Some(Self::Low),
            30..=59 => Some(Self::Medium),
            60..=79 => Some(Self::High),
            80.. => Some(Self::Critical),
        }
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Importance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!(
                "{text:?} is no importance: it is one of {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

/// How bad and how sure: the `score` of the JSON form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub source: &'static str,
    /// 0 to 100.
    pub severity: u8,
    pub severity_level: &'static str,
    /// 0.0 to 1.0, two decimals.
    pub confidence: f64,
    /// `ceil(severity * confidence)`.
    pub risk_score: u8,
    pub reasons: Vec<String>,
}

impl RecipeFacts {
    /// Reckoned in hundredths: with floats, 100 * 0.07 is a little more than 7 and its ceiling 8.
    pub fn score(&self) -> Score {
        let severity = self.severity.unwrap_or(self.importance.severity()).min(100);
        let stated = self.confidence.filter(|value| value.is_finite());
        // The cast saturates and the value was clamped: 0 to 100.
        let hundredths = (stated.unwrap_or(1.0).clamp(0.0, 1.0) * 100.0).round() as u16;
        let risk = (u16::from(severity) * hundredths).div_ceil(100);
        let severity_reason = match self.severity {
            Some(_) => format!("severity {severity} stated by the recipe"),
            None => format!("severity {severity} from importance {}", self.importance),
        };
        let confidence = f64::from(hundredths) / 100.0;
        let confidence_reason = match stated {
            Some(_) => format!("confidence {confidence:.2} stated by the recipe"),
            None => format!("confidence {confidence:.2} as the recipe states none"),
        };
        Score {
            source: "recipe",
            severity,
            severity_level: Importance::of_severity(severity).map_or("none", Importance::name),
            confidence,
            risk_score: u8::try_from(risk).unwrap_or(100),
            reasons: vec![severity_reason, confidence_reason],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_is_read_and_written_by_one_name() {
        for level in Importance::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(Importance::of_severity(level.severity()), Some(level));
        }
        assert_eq!("HIGH".parse(), Ok(Importance::High));
        assert!("severe".parse::<Importance>().is_err());
    }

    #[test]
    fn risk_is_rounded_up_but_not_by_float_noise() {
        let risk = |severity, confidence| {
            RecipeFacts { severity: Some(severity), confidence, ..Default::default() }
                .score()
                .risk_score
        };
        assert_eq!(risk(100, Some(0.07)), 7);
        assert_eq!(risk(75, Some(0.9)), 68);
        assert_eq!(risk(90, None), 90);
        assert_eq!(risk(255, Some(7.0)), 100);
        assert_eq!(risk(50, Some(-1.0)), 0);
        assert_eq!(risk(50, Some(f64::NAN)), 50);
    }

    #[test]
    fn severity_comes_from_the_importance_when_not_stated() {
        let score = RecipeFacts { importance: Importance::High, ..Default::default() }.score();
        assert_eq!((score.severity, score.severity_level, score.risk_score), (75, "high", 75));
    }
}
