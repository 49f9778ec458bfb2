package typed

import (
	"math"
	"reflect"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
)

// limits are the checks of a schema on a single value.
type limits struct {
	texts   []string  // enum of a string; nil admits all
	numbers []float64 // enum of a number; nil admits all

	minimum, maximum, above, below, multipleOf *float64

	minLength, maxLength *int // code points
	pattern              *regexp.Regexp

	minItems, maxItems *int
}

// checks returns s without what the SDK's validator never looks at while it
// validates. What is left of it must be understood, or there is no plan: so
// keywords that are unknown here are never passed over.
func checks(s *jsonschema.Schema) jsonschema.Schema {
	c := *s
	c.Title, c.Description, c.Comment, c.Format = "", "", "", ""
	c.ContentEncoding, c.ContentMediaType = "", ""
	c.Default, c.Examples, c.Extra, c.PropertyOrder = nil, nil, nil, nil
	c.Deprecated, c.ReadOnly, c.WriteOnly = false, false, false
	c.Defs, c.Definitions = nil, nil // only references reach them
	return c
}

// limitsOf returns the limits on values of kind k, nil if there are none, and
// the rest of the schema's checks. It reports false where a limit is beyond us.
func limitsOf(s *jsonschema.Schema, k kind) (*limits, jsonschema.Schema, bool) {
	rest := checks(s)
	rest.Type, rest.Types = "", nil
	var l limits
	switch k {
	case text, instant:
		l.minLength, l.maxLength = s.MinLength, s.MaxLength
		if s.Pattern != "" {
			re, err := regexp.Compile(s.Pattern)
			if err != nil {
				return nil, rest, false
			}
			l.pattern = re
		}
		if s.Enum != nil {
			l.texts = []string{}
			for _, e := range s.Enum {
				if v := reflect.ValueOf(e); v.Kind() == reflect.String {
					l.texts = append(l.texts, v.String())
				}
			}
		}
		rest.MinLength, rest.MaxLength, rest.Pattern, rest.Enum = nil, nil, "", nil
	case signed, unsigned, float:
		l.minimum, l.maximum, l.multipleOf = s.Minimum, s.Maximum, s.MultipleOf
		l.above, l.below = s.ExclusiveMinimum, s.ExclusiveMaximum
		for _, f := range []*float64{l.minimum, l.maximum, l.above, l.below, l.multipleOf} {
			if f != nil && (math.IsNaN(*f) || math.IsInf(*f, 0)) {
				return nil, rest, false
			}
		}
		if k == unsigned && l.minimum != nil && *l.minimum <= 0 {
			l.minimum = nil // met by the type
		}
		if s.Enum != nil {
			l.numbers = []float64{}
			for _, e := range s.Enum {
				f, ok := exactFloat(e)
				if !ok {
					return nil, rest, false
				}
				l.numbers = append(l.numbers, f)
			}
		}
		rest.Minimum, rest.Maximum, rest.MultipleOf = nil, nil, nil
		rest.ExclusiveMinimum, rest.ExclusiveMaximum, rest.Enum = nil, nil, nil
	case list, array:
		l.minItems, l.maxItems = s.MinItems, s.MaxItems
		rest.MinItems, rest.MaxItems = nil, nil
	}
	if reflect.ValueOf(l).IsZero() {
		return nil, rest, true
	}
	return &l, rest, true
}

// exactFloat returns the number e as a float64, if that loses nothing.
func exactFloat(e any) (float64, bool) {
	switch v := reflect.ValueOf(e); {
	case v.CanInt():
		return float64(v.Int()), within(float64(v.Int()))
	case v.CanFloat():
		return v.Float(), !math.IsNaN(v.Float()) && !math.IsInf(v.Float(), 0)
	}
	return 0, false
}

// within reports whether f is in the range where float64 has all whole numbers. Limits, which are float64, say nothing reliable
// beyond.
func within(f float64) bool { return f > -(1<<53) && f < 1<<53 }

// fine reports whether f is in the range where float64 has fractions.
func fine(f float64) bool { return f > -(1<<52) && f < 1<<52 }

func (l *limits) text(s string) bool {
	if l == nil {
		return true
	}
	if l.minLength != nil || l.maxLength != nil {
		n := utf8.RuneCountInString(s)
		if l.minLength != nil && n < *l.minLength || l.maxLength != nil && n > *l.maxLength {
			return false
		}
	}
	return (l.texts == nil || slices.Contains(l.texts, s)) && (l.pattern == nil || l.pattern.MatchString(s))
}

func (l *limits) number(f float64) bool {
	if l == nil {
		return true
	}
	if !within(f) {
		return false
	}
	if l.minimum != nil && f < *l.minimum || l.maximum != nil && f > *l.maximum ||
		l.above != nil && f <= *l.above || l.below != nil && f >= *l.below {
		return false
	}
	if l.multipleOf != nil {
		if _, part := math.Modf(f / *l.multipleOf); part != 0 || !fine(f / *l.multipleOf) {
			return false
		}
	}
	return l.numbers == nil || slices.Contains(l.numbers, f)
}

func (l *limits) items(n int) bool {
	return l == nil || (l.minItems == nil || n >= *l.minItems) && (l.maxItems == nil || n <= *l.maxItems)
}
