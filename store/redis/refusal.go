package redis

import (
	"errors"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// A refusal is what is kept of an error that the server answered with. Redis quotes in its texts what it was sent, keys and arguments; session
// IDs are in them, and errors get logged.
type refusal struct {
	code    string // the server's, such as OOM
	why     string // our words; empty for a code that is not known
	forGood bool   // waiting does not mend it
}

func (r *refusal) Error() string {
	if r.why == "" {
		return r.code
	}
	return r.code + ": " + r.why
}

var refusals = []*refusal{
	{code: "READONLY", why: "the server is a replica, which takes no writes"},
	{code: "OOM", why: "the server's memory is full (maxmemory)"},
	{code: "MISCONF", why: "the server cannot save its data to disk and takes no writes until it can"},
	{code: "NOREPLICAS", why: "too few replicas follow the server for it to take writes"},
	{code: "LOADING", why: "the server is still loading its data"},
	{code: "MASTERDOWN", why: "the server is a replica that has lost its primary"},
	{code: "CLUSTERDOWN", why: "the cluster is down"},
	{code: "BUSY", why: "the server is busy with a script"},
	{code: "WRONGTYPE", why: "a key of ours holds something else; is the prefix shared?"},
	{code: "NOAUTH", why: "the server asks for a password", forGood: true},
	{code: "WRONGPASS", why: "the user name or the password is wrong", forGood: true},
	{code: "NOPERM", why: "the user lacks the right to a command, a key or a channel (ACL)", forGood: true},
	{code: "DENIED", why: "the server is in protected mode", forGood: true},
	{code: "MOVED", why: "the server is part of a Redis Cluster", forGood: true},
	{code: "CROSSSLOT", why: "the server is part of a Redis Cluster", forGood: true},
}

// Errors that have no code of their own but ERR, by what their text has in it. The first that fits counts.
var uncoded = []struct {
	text string
	refusal
}{
	{"The user executing the script can't", refusal{code: "NOPERM", why: "the user lacks the right to a command, a key or a channel that a script needs (ACL)", forGood: true}},
	{"unknown command", refusal{code: "ERR", why: "the server does not know a command, or has it renamed", forGood: true}},
	{"DB index is out of range", refusal{code: "ERR", why: "the server has no database of this number", forGood: true}},
	{"invalid DB index", refusal{code: "ERR", why: "the server has no database of this number", forGood: true}},
	{"SELECT is not allowed in cluster mode", refusal{code: "ERR", why: "the server is part of a Redis Cluster", forGood: true}},
	{"invalid password", refusal{code: "ERR", why: "the password is wrong", forGood: true}},
	{"without any password configured", refusal{code: "ERR", why: "the server has no password, and was given one", forGood: true}},
	{"but no password is set", refusal{code: "ERR", why: "the server has no password, and was given one", forGood: true}},
	{"max number of clients reached", refusal{code: "ERR", why: "the server has too many connections"}},
}

// reduce makes a refusal of an error that the server answered with; others it returns as they are. They are about the
// connection, and the client library does not put into them what it was to send.
func reduce(err error) error {
	answer, ok := errors.AsType[*rueidis.RedisError](err)
	if !ok {
		if _, ok := errors.AsType[*strconv.NumError](err); ok || rueidis.IsParseErr(err) {
			return errUnexpected // they quote the answer
		}
		return err
	}
	text := answer.Error() // without ERR, which the client library takes off
	for i, u := range uncoded {
		if strings.Contains(text, u.text) {
			return &uncoded[i].refusal
		}
	}
	code, _, _ := strings.Cut(text, " ")
	for _, r := range refusals {
		// Servers before 7 put the error of a command in a script behind words of their own.
		if r.code == code || strings.HasPrefix(text, "Error running script") && strings.Contains(text, "-"+r.code+" ") {
			return r
		}
	}
	if !isCode(code) {
		code = "ERR"
	}
	return &refusal{code: code}
}

var errUnexpected = errors.New("an answer that makes no sense here")

// isCode tells a code from the first word of anything else.
func isCode(s string) bool {
	return s != "" && len(s) <= 16 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}
