package redis

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
)

// TestReduce has a server answer with what servers of other versions and makes say. ID7 stands for a session's ID.
func TestReduce(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var answer string
	m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if cmd == "GET" {
			c.WriteError(answer)
		}
		return cmd == "GET"
	})
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{m.Addr()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, tt := range []struct {
		answer, code string
		forGood      bool
	}{
		{"READONLY You can't write against a read only replica. script: 5c1, on @user_script:5.", "READONLY", false},
		{"ERR Error running script (call to f_5c1): @user_script:5: @user_script: 5: -READONLY You can't write against a read only replica.", "READONLY", false},
		{"ERR Error running script (call to f_5c1): @user_script:5: @user_script: 5: -OOM command not allowed when used memory > 'maxmemory'.", "OOM", false},
		{"OOM command not allowed when used memory > 'maxmemory'.", "OOM", false},
		{"NOPERM User u has no permissions to access the 'sluice:k:session:ID7' key", "NOPERM", true},
		{"NOPERM this user has no permissions to run the 'evalsha' command or its subcommand", "NOPERM", true},
		{"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments", "NOPERM", true},
		{"ERR unknown command 'EVALSHA', with args beginning with: 'abc' '1' 'sluice:l:stream:ID7' ", "ERR", true},
		{"MOVED 3999 127.0.0.1:6381", "MOVED", true},
		{"WRONGTYPE key sluice:k:session:ID7 holds the wrong kind of value", "WRONGTYPE", false},
		{"BUSYKEY Target key name sluice:ID7 already exists.", "BUSYKEY", false},
		{"ERR something about sluice:k:session:ID7", "ERR", false},
		{"ID7 is in the way", "ERR", false},
		{"ERR value \"ID7\"", "ERR", false},
		{"LOADING Redis is loading the dataset in memory", "LOADING", false},
		{"ERR invalid password", "ERR", true},
		{"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?", "ERR", true},
		{"ERR DB index is out of range", "ERR", true},
		{"DENIED Redis is running in protected mode because …", "DENIED", true},
	} {
		answer = tt.answer
		got, ok := errors.AsType[*refusal](reduce(client.Do(t.Context(), client.B().Get().Key("k").Build()).Error()))
		if !ok || got.code != tt.code || got.forGood != tt.forGood || strings.Contains(got.Error(), "ID7") {
			t.Errorf("%s: got %+v", tt.answer, got)
		}
	}

	_, number := strconv.ParseInt("ID7", 10, 64)
	if got := reduce(fmt.Errorf("reading: %w", number)); strings.Contains(got.Error(), "ID7") {
		t.Errorf("got %v", got)
	}
	for _, err := range []error{io.EOF, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}} {
		if got := reduce(err); !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.8.24": true, "5.0.7": true, "6.0.20": true, "6.2.0": false, "6.2.14": false, "7.0.15": false, "7.2.4": false, "8.0.0": false, "10.1": false, "": false, "unstable": false,
	} {
		if tooOld(version) != want {
			t.Errorf("%q: got %v", version, !want)
		}
	}
}
