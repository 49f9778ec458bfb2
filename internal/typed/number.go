package typed

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
)

// wholeDigits bounds the digits of a whole number: float64 ends before.
const wholeDigits = 400

// whole returns the digits of a JSON number that is a whole one, however it is written: 5.0 and 50e-1 are 5.
func whole(literal string) (string, bool) {
	mantissa, exponent, scientific := cut(literal, "eE")
	before, after, fraction := strings.Cut(mantissa, ".")
	if !scientific && !fraction {
		return literal, true
	}
	exp := 0
	if scientific {
		var err error
		if exp, err = strconv.Atoi(exponent); err != nil || exp < -wholeDigits || exp > wholeDigits {
			return "", false
		}
	}
	sign := ""
	if strings.HasPrefix(before, "-") {
		sign, before = "-", before[1:]
	}
	digits := before + after
	switch point := len(before) + exp; {
	case strings.Trim(digits, "0") == "":
		digits = "0"
	case point <= 0 || point < len(digits) && strings.Trim(digits[point:], "0") != "":
		return "", false
	case point < len(digits):
		digits = digits[:point]
	default:
		digits += strings.Repeat("0", point-len(digits))
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	return sign + digits, true
}

func cut(s, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// loose returns a JSON number as a value of the empty interface holds it: a float64, by Go's convention. A whole number whose
// digits float64 would change is a [json.Number] of just those digits, since it is often a name and no quantity.
func loose(n json.Number) (any, error) {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, err
	}
	if digits, ok := whole(string(n)); ok && len(digits) > 15 && strconv.FormatFloat(f, 'f', -1, 64) != digits {
		return json.Number(digits), nil
	}
	return f, nil
}

// exactly returns a JSON number as the validator compares it exactly: a whole number that float64 would change has up to 64 bits.
func exactly(n json.Number) (any, error) {
	v, err := loose(n)
	digits, ok := v.(json.Number)
	if !ok {
		return v, err
	}
	if i, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(string(digits), 10, 64); err == nil {
		return u, nil
	}
	return digits.Float64()
}

// exactOrNil returns a JSON value with its numbers as the validator compares them, or nil.
func exactOrNil(v any) any {
	exact, err := mapNumbers(v, exactly)
	if err != nil {
		return nil
	}
	return exact
}

// mapNumbers returns a copy of a JSON value with every number replaced.
func mapNumbers(v any, replace func(json.Number) (any, error)) (_ any, err error) {
	switch v := v.(type) {
	case json.Number:
		return replace(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			if list[i], err = mapNumbers(e, replace); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		if v == nil {
			return v, nil
		}
		object := make(map[string]any, len(v))
		for k, e := range v {
			if object[k], err = mapNumbers(e, replace); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	return v, nil
}

// divides reports whether the number is a multiple of m, when it is too large for the validator's division: float64 has no
// fractions there, so that any number would be a multiple of any other.
func divides(m float64, literal string) bool {
	digits, ok := whole(literal)
	f, err := strconv.ParseFloat(literal, 64)
	if !ok || err != nil || within(f) && fine(f/m) {
		return true // the validator's to say
	}
	step, ok := new(big.Rat).SetString(strconv.FormatFloat(m, 'g', -1, 64))
	if !ok || step.Sign() == 0 {
		return true
	}
	x, ok := new(big.Rat).SetString(digits)
	return ok && x.Quo(x, step).IsInt()
}
