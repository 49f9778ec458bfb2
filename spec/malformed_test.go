package spec_test

import (
	"strings"
	"testing"
)

// malformedAnswers are what clients send in place of an answer; %ID stands for the ID of the question. The tool is told at once
// what want says.
var malformedAnswers = map[string]struct{ body, want string }{
	"result, error null":   {`{"jsonrpc":"2.0","id":%ID,"result":{"action":"accept","content":{"name":"Ada"}},"error":null}`, "accept Ada"},
	"error, result null":   {`{"jsonrpc":"2.0","id":%ID,"result":null,"error":{"code":-1,"message":"not today"}}`, "not today"},
	"result is a string":   {`{"jsonrpc":"2.0","id":%ID,"result":"accept"}`, "malformed"},
	"result is a list":     {`{"jsonrpc":"2.0","id":%ID,"result":[]}`, "malformed"},
	"result is true":       {`{"jsonrpc":"2.0","id":%ID,"result":true}`, "malformed"},
	"result is null":       {`{"jsonrpc":"2.0","id":%ID,"result":null}`, "malformed"},
	"error is null":        {`{"jsonrpc":"2.0","id":%ID,"error":null}`, "malformed"},
	"both are null":        {`{"jsonrpc":"2.0","id":%ID,"result":null,"error":null}`, "malformed"},
	"both":                 {`{"jsonrpc":"2.0","id":%ID,"result":{"action":"accept"},"error":{"code":1,"message":"x"}}`, "malformed"},
	"neither":              {`{"jsonrpc":"2.0","id":%ID}`, "malformed"},
	"error is a string":    {`{"jsonrpc":"2.0","id":%ID,"error":"no"}`, "malformed"},
	"error is empty":       {`{"jsonrpc":"2.0","id":%ID,"error":{}}`, "malformed"},
	"code is a string":     {`{"jsonrpc":"2.0","id":%ID,"error":{"code":"1","message":"x"}}`, "malformed"},
	"no message":           {`{"jsonrpc":"2.0","id":%ID,"error":{"code":1}}`, "malformed"},
	"no version":           {`{"id":%ID,"result":{"action":"accept"}}`, "malformed"},
	"another version":      {`{"jsonrpc":"1.0","id":%ID,"result":{"action":"accept"}}`, "malformed"},
	"result twice":         {`{"jsonrpc":"2.0","id":%ID,"result":{"action":"accept"},"result":{"action":"decline"}}`, "malformed"},
	"action is a number":   {`{"jsonrpc":"2.0","id":%ID,"result":{"action":5}}`, "cannot unmarshal"},
	"content is no object": {`{"jsonrpc":"2.0","id":%ID,"result":{"action":"accept","content":[1]}}`, "cannot unmarshal"},
}

// A tool whose client answers with something malformed hears so at once: no better answer will come. It would wait longer for one than
// anything here does.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	e := serve(t)
	check := func(t *testing.T, name, want string, m message) {
		t.Helper()
		text := string(m.Result)
		if m.Error != nil {
			text = m.Error.Message
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: the tool was told %s, want %q", name, text, want)
		}
	}
	eachVersion(t, legacy, func(t *testing.T, v string) {
		s := e.open(t, v)
		for name, c := range malformedAnswers {
			for _, batch := range []bool{false, true} {
				if batch && v != v03 {
					continue
				}
				call := s.start(t, call(s.next(), "elicit", obj{"key": name})).reply(t).events(t)
				question, _ := call.message(t)
				body := strings.ReplaceAll(c.body, "%ID", string(question.ID))
				if batch {
					body = "[" + body + "]"
				}
				s.send(t, body).has(t, 202, 400)
				m, _ := call.message(t)
				check(t, name, c.want, m)
			}
		}
	})
	t.Run(v24, func(t *testing.T) {
		s := e.openSSE(t).initialized(t)
		for name, c := range malformedAnswers {
			s.send(t, call(7, "elicit", obj{"key": name})).has(t, 202)
			question, _ := s.message(t)
			s.send(t, strings.ReplaceAll(c.body, "%ID", string(question.ID))).has(t, 202, 400)
			m, _ := s.message(t)
			check(t, name, c.want, m)
		}
	})
}

// Some libraries write the members that a message does not have, as null.
func TestRequestWithNulls(t *testing.T) {
	t.Parallel()
	s := serve(t).open(t, v11)
	s.send(t, `{"jsonrpc":"2.0","id":5,"method":"ping","params":null,"result":null,"error":null}`).result(t)
	s.send(t, `{"jsonrpc":"2.0","method":"notifications/initialized","error":null}`).accepted(t)
	s.send(t, `{"jsonrpc":"2.0","id":6,"method":"ping","result":{}}`).fails(t, 400, -32600)
}
