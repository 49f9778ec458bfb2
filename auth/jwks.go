package auth

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// A keySet holds the keys of an issuer that verify signatures.
type keySet struct {
	keys    []publicKey
	ignored []string // one text for each key that cannot be understood
	fetched time.Time
}

type publicKey struct {
	id         string // empty if it has none
	algorithms []string
	key        jwt.VerificationKey
}

var (
	errEmpty  = errors.New("the set holds no key for signatures")
	errNoKey  = errors.New("no key fits the token")
	errUnused = errors.New("the key is not for signatures")
)

// fitting returns the keys that may have signed a token. A key ID need not be unique: it may stand for keys of different types
// and uses (RFC 7517, section 4.5). A key without one may be meant by every token, and a token without one may mean every key.
func (s *keySet) fitting(t *jwt.Token) (jwt.VerificationKeySet, error) {
	var fit jwt.VerificationKeySet
	id, _ := t.Header["kid"].(string)
	if _, named := t.Header["kid"]; named && id == "" {
		return fit, jwt.ErrTokenMalformed
	}
	for _, k := range s.keys {
		if (id == "" || k.id == "" || k.id == id) && slices.Contains(k.algorithms, t.Method.Alg()) {
			fit.Keys = append(fit.Keys, k.key)
		}
	}
	if len(fit.Keys) == 0 {
		return fit, errNoKey
	}
	return fit, nil
}

// parseKeySet reads a JWK Set. A key that cannot be understood is left out; the others count (RFC 7517, section 5). It returns
// [errEmpty] if the issuer has no key for signatures, and another error if it may have one.
func parseKeySet(document []byte) (*keySet, error) {
	var set map[string]json.RawMessage
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, err
	}
	var all []json.RawMessage
	if err := json.Unmarshal(set["keys"], &all); err != nil || all == nil {
		return nil, errors.New("this is no JWK Set: it has no array of keys")
	}
	s := &keySet{fetched: time.Now()}
	for i, raw := range all {
		k, err := parseKey(raw)
		switch {
		case errors.Is(err, errUnused):
		case err != nil:
			s.ignored = append(s.ignored, fmt.Sprintf("key %d, %.80q: %.200s", i+1, k.id, err.Error()))
		default:
			s.keys = append(s.keys, k)
		}
	}
	if len(s.keys) > 0 {
		return s, nil
	}
	if len(s.ignored) > 0 {
		return nil, fmt.Errorf("no key of the set can be used: %s", s.ignored[0])
	}
	return nil, errEmpty
}

// Smaller RSA keys must not be used (RFC 7518, section 3.3); larger ones would take long, for every token that names them.
const minRSABits, maxRSABits = 2048, 16384

// parseKey reads the members of a JWK that make a public key. All others are nobody's business here: above all x5c and its
// hashes, in which issuers make mistakes that no verifier of tokens needs to see.
func parseKey(raw json.RawMessage) (publicKey, error) {
	// A map, because a struct would take a member with other capitals for the one it knows.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return publicKey{}, errors.New("not a JSON object")
	}
	var broken error
	text := func(name string) (s string) {
		if value, ok := members[name]; ok && json.Unmarshal(value, &s) != nil {
			broken = fmt.Errorf("%s is not a string", name)
		}
		return s
	}
	k := publicKey{id: text("kid")}
	use, alg := text("use"), text("alg")
	var operations []string
	if value, ok := members["key_ops"]; ok && json.Unmarshal(value, &operations) != nil {
		broken = errors.New("key_ops is not an array of strings")
	}
	material := jwkset.JWKMarshal{KTY: jwkset.KTY(text("kty"))}
	switch material.KTY {
	case jwkset.KtyRSA:
		material.N, material.E = text("n"), text("e")
	case jwkset.KtyEC:
		material.CRV, material.X, material.Y = jwkset.CRV(text("crv")), text("x"), text("y")
	case jwkset.KtyOKP:
		material.CRV, material.X = jwkset.CRV(text("crv")), text("x")
	}
	switch {
	case broken != nil:
		return k, broken
	case use == "enc", operations != nil && !slices.Contains(operations, "verify"):
		return k, errUnused
	case use != "" && use != "sig":
		return k, fmt.Errorf("use %q is not known", use)
	}

	if k.algorithms = algorithmsOf[material.KTY][material.CRV]; k.algorithms == nil {
		return k, fmt.Errorf("type %q %q is not one for signatures", material.KTY, material.CRV)
	}
	if alg != "" {
		if !slices.Contains(k.algorithms, alg) {
			return k, fmt.Errorf("alg %q is not one for type %q %q", alg, material.KTY, material.CRV)
		}
		if material.KTY != jwkset.KtyOKP { // whose algorithms are two names of one
			k.algorithms = []string{alg}
		}
	}
	decoded, err := jwkset.NewJWKFromMarshal(material, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return k, err
	}
	k.key = decoded.Key()
	if key, ok := k.key.(*rsa.PublicKey); ok && (key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits) {
		return k, fmt.Errorf("an RSA key of %d bits is not accepted", key.N.BitLen())
	}
	return k, nil
}

// algorithmsOf says which algorithms a key of some type and curve can have. Symmetric keys are not among them, see [algorithms].
var algorithmsOf = map[jwkset.KTY]map[jwkset.CRV][]string{
	jwkset.KtyRSA: {"": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
	jwkset.KtyEC:  {jwkset.CrvP256: {"ES256"}, jwkset.CrvP384: {"ES384"}, jwkset.CrvP521: {"ES512"}},
	jwkset.KtyOKP: {jwkset.CrvEd25519: {"EdDSA", algEd25519}},
}
