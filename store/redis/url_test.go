//go:build unix

package redis_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/sluice-mcp/sluice/internal/redistest"
	"github.com/sluice-mcp/sluice/store/redis"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{
		"redis://h", "redis://h:6379", "redis://h:6379/", "redis://h/0", "redis://h/15", "redis://h?db=3", "redis://h/?db=3", "redis://", "redis:///1",
		"rediss://h/", "valkey://h/1", "valkeys://h/", "redis://[::1]:6379/", "redis://user:p%40ss%2Fw%3F%23@h/1", "redis://:p@h", "redis://p@ss:w@h",
		"redis://h/?prefix=x:", "redis://h?prefix=", "redis://h?protocol=2", "redis://h?client_name=a%40b",
		"rediss://h?skip_verify", "rediss://h?skip_verify=true", "redis://h:26379?master_set=m&addr=h2:26379&addr=h3:26379",
	} {
		if err := redis.CheckURL(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	// hunter2 stands for a password.
	for u, says := range map[string]string{
		"redis://h?ssl=true":                   `unknown parameter "ssl"; there are addr, client_name, db, master_set, prefix, protocol, skip_verify`,
		"redis://h?tls=true":                   `"tls"`,
		"redis://h?prefx=x":                    `"prefx"`,
		"redis://h?prefix=x&timeout=1s":        `"timeout"`,
		"redis://h?dial_timeout=1s":            `"dial_timeout"`,
		"redis://h?max_retries=0":              `"max_retries"`,
		"redis://h?password=hunter2":           `"password"`,
		"redis://h?prefix=a&prefix=b":          "prefix is given twice",
		"redis://h?prefix=a;db=1":              "query",
		"redis://h/1?db=2":                     "db does again",
		"redis://h?db=x":                       `"x"`,
		"redis://h/x":                          `"x"`,
		"redis://h/-1":                         `"-1"`,
		"redis://h/1/2":                        `"1/2"`,
		"redis://h/1/":                         `"1/"`,
		"redis://h/99999999999":                "no number",
		"redis://h#x":                          "fragment",
		"redis://h#":                           "fragment",
		"redis:h":                              "//",
		"redis:":                               "",
		"h:6379":                               "scheme",
		"unix:///tmp/redis.sock":               `"unix"`,
		"redis://h?skip_verify=true":           "rediss://",
		"valkey://h?skip_verify=true":          "valkeys://",
		"rediss://h?skip_verify=perhaps":       `"perhaps"`,
		"redis://h?protocol=4":                 `"4"`,
		"redis://h?master_set=":                "empty",
		"redis://h?addr=h2:1":                  "master_set",
		"redis://h?master_set=m&addr=h2":       `"h2"`,
		"redis://h?master_set=m&addr=h2:70000": `"70000"`,
		"redis://h:0":                          `"0"`,
		"redis://h:70000":                      `"70000"`,
		"redis://:hun/ter2@h":                  "percent-encoded",
		"redis://:1/hunter2@h":                 "percent-encoded",
		"redis://:1?hunter2@h":                 "percent-encoded",
		"redis://:1#hunter2@h":                 "percent-encoded",
		"redis://u:hunter2@a?hunter2@h":        "percent-encoded",
		"redis://:hunter2%zz@h":                "percent-encoded",
		"redis://:hunter2 @h":                  "percent-encoded",
		"redis://:hunter2@h:port":              "",
		"redis://:hunter2@h?ssl=1":             `"ssl"`,
		"redis://:hunter2@h/x":                 `"x"`,
	} {
		err := redis.CheckURL(u)
		switch {
		case u == "redis:" && err == nil: // a relative form of redis://
		case err == nil:
			t.Errorf("%s: no error", u)
		case !strings.Contains(err.Error(), says):
			t.Errorf("%s: %v, want %q", u, err, says)
		case strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "ter2"):
			t.Errorf("%s: tells the password: %v", u, err)
		}
	}
}

// TestDatabasesDoNotMeet has two deployments share a server, which has one space of channels for all its databases.
func TestDatabasesDoNotMeet(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) { t.Parallel(); databases(t, redistest.New(t).URL()) })
	t.Run("miniredis", func(t *testing.T) { t.Parallel(); databases(t, "redis://"+miniredis.RunT(t).Addr()) })
}

func databases(t *testing.T, base string) {
	stores := make(map[string]*redis.Redis)
	for _, where := range []string{"", "/1", "/10?prefix=sluice:", "/?prefix=other:", "/1?prefix=other:", "?db=2"} {
		r, err := redis.OpenWithin(t.Context(), base+where, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if _, err := r.Subscribe(t.Context(), "t", "0:t", "1:t"); err != nil {
			t.Fatal(err)
		}
		stores[where] = r
	}
	for where, r := range stores {
		if n, err := r.Publish(t.Context(), "t", nil); n != 1 || err != nil {
			t.Errorf("%s: %d received it, %v, want 1", where, n, err)
		}
	}
	// Another name of the same database.
	u, err := url.Parse(base + "/?db=1")
	if err != nil {
		t.Fatal(err)
	}
	same, err := redis.OpenWithin(t.Context(), u.String(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = same.Close() }()
	if n, err := same.Publish(t.Context(), "t", nil); n != 1 || err != nil {
		t.Errorf("%d received it, %v, want 1", n, err)
	}
}
