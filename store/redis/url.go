package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// What a URL may say. The schemes redis and rediss are IANA's; those of Valkey mean the same.
var (
	schemes    = []string{"redis", "rediss", "valkey", "valkeys"} // with an s: over TLS
	parameters = []string{"addr", "client_name", "db", "master_set", "prefix", "protocol", "skip_verify"}
)

// CheckURL returns the error that [Open] would return for the URL alone.
func CheckURL(rawURL string) error {
	_, _, err := parse(rawURL)
	return err
}

// parse reads a URL. Its errors quote nothing that may be part of a password: one with a "/", "?" or "#" in it that is not
// percent-encoded ends up in any part of the URL.
func parse(rawURL string) (opt rueidis.ClientOption, prefix string, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return opt, "", errors.New("not a URL (what is special in a password must be percent-encoded)")
	}
	tail := u.EscapedPath() + "?" + u.RawQuery + "#" + u.EscapedFragment()
	switch {
	case !slices.Contains(schemes, u.Scheme):
		return opt, "", fmt.Errorf("the scheme %q is none of %s", u.Scheme, strings.Join(schemes, ", "))
	case u.Opaque != "":
		return opt, "", fmt.Errorf("%s: is not followed by //", u.Scheme)
	case strings.Contains(tail, "@"):
		return opt, "", errors.New("an @ after the host (what is special in a password must be percent-encoded)")
	case strings.Contains(rawURL, "#"):
		return opt, "", errors.New("a fragment (#…) means nothing")
	}
	if port := u.Port(); port != "" {
		if err := checkPort(port); err != nil {
			return opt, "", err
		}
	}
	q, err := parseQuery(u)
	if err != nil {
		return opt, "", err
	}
	db := strings.TrimPrefix(u.Path, "/")
	if q.Has("db") {
		if db != "" {
			return opt, "", errors.New("the path names a database, and db does again")
		}
		db = q.Get("db")
	}
	if _, err := strconv.ParseUint(db, 10, 31); db != "" && err != nil {
		return opt, "", fmt.Errorf("%q is no number of a database", db)
	}
	u.Path = "/" + db
	if db == "" {
		u.Path = "" // the client library takes no bare slash, which means the same (IANA's "redis")
	}
	if opt, err = rueidis.ParseURL(u.String()); err != nil {
		return opt, "", errors.New("not a URL of a Redis server")
	}
	prefix = "sluice:"
	if q.Has("prefix") {
		prefix = q.Get("prefix")
	}
	return opt, prefix, nil
}

// parseQuery refuses what would have no effect: who writes it believes that it has one.
func parseQuery(u *url.URL) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	for name, values := range q {
		switch {
		case !slices.Contains(parameters, name):
			return nil, fmt.Errorf("unknown parameter %q; there are %s", name, strings.Join(parameters, ", "))
		case len(values) > 1 && name != "addr":
			return nil, fmt.Errorf("%s is given twice", name)
		}
	}
	switch {
	case q.Has("addr") && q.Get("master_set") == "":
		return nil, errors.New("addr names further Sentinels, and there is no master_set")
	case q.Has("master_set") && q.Get("master_set") == "":
		return nil, errors.New("master_set is empty")
	case q.Has("protocol") && q.Get("protocol") != "2" && q.Get("protocol") != "3":
		return nil, fmt.Errorf("protocol %q is neither 2 nor 3", q.Get("protocol"))
	case q.Has("skip_verify") && u.Scheme != "rediss" && u.Scheme != "valkeys":
		return nil, fmt.Errorf("skip_verify is for TLS, which is %ss://", u.Scheme)
	}
	for _, addr := range q["addr"] {
		if err := checkAddr(addr); err != nil {
			return nil, err
		}
	}
	if v := q.Get("skip_verify"); v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return nil, fmt.Errorf("skip_verify %q is neither true nor false", v)
		}
	}
	return q, nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return fmt.Errorf("addr %q is not HOST:PORT", addr)
	}
	return checkPort(port)
}

// checkPort refuses a port that dialing would fail at for ever.
func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}
