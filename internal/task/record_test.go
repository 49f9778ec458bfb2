package task

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-mcp/sluice/internal/large"
	"github.com/sluice-mcp/sluice/internal/wire"
)

// noon is when things happen here.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// minutes is a record of a task that was created before now.
func minutes(before int, edits ...func(*Record)) *Record {
	r := &Record{
		ID: "T", Status: Working, Owner: "me", Round: 1, Poll: 1000,
		Created: noon.Add(-time.Duration(before) * time.Minute).UnixMilli(), TTL: time.Hour.Milliseconds(), Keep: (15 * time.Minute).Milliseconds(),
		Params: large.Value{Here: json.RawMessage(`{}`)}, Origin: json.RawMessage(`{}`),
	}
	r.Updated = r.Created
	for _, edit := range edits {
		edit(r)
	}
	return r
}

func wanted(r *Record) { r.CancelWanted = true }

func TestEnd(t *testing.T) {
	t.Parallel()
	asked := []Ask{{Key: "a"}, {Key: "b"}}
	result := json.RawMessage(`{"content":[]}`)
	for name, tt := range map[string]struct {
		edits []func(*Record)
		o     Outcome
		want  Status
	}{
		"a result":                          {nil, Outcome{Result: result}, Completed},
		"a tool's error":                    {nil, Outcome{Result: result, IsError: true}, Completed},
		"an error":                          {nil, Outcome{Err: wire.Internal("no")}, Failed},
		"questions":                         {nil, Outcome{Asked: asked}, InputRequired},
		"cancelled, and a result":           {[]func(*Record){wanted}, Outcome{Result: result}, Completed},
		"cancelled, and a tool's error":     {[]func(*Record){wanted}, Outcome{Result: result, IsError: true}, Cancelled},
		"cancelled, and an error":           {[]func(*Record){wanted}, Outcome{Err: wire.Internal("no")}, Cancelled},
		"cancelled, and questions":          {[]func(*Record){wanted}, Outcome{Asked: asked}, Cancelled},
		"an error is more than its result":  {nil, Outcome{Err: wire.Internal("no"), Result: result}, Failed},
		"questions are more than no result": {nil, Outcome{Asked: asked, Result: result}, InputRequired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := minutes(10, tt.edits...)
			r.end(tt.o, large.Value{Here: tt.o.Result}, noon)
			if r.Status != tt.want || r.Owner != "" || r.Updated != noon.UnixMilli() {
				t.Errorf("it is %+v, want %s", r, tt.want)
			}
			if (r.Error != nil) != (tt.want == Failed) || (len(r.Result.Here) > 0) != (tt.want == Completed) || (len(r.Asked) > 0) != (tt.want == InputRequired) {
				t.Errorf("it has more than its status, or less: %+v", r)
			}
			if r.Status.Final() && (r.Params.Here != nil || r.Origin != nil || r.Answers != nil || r.State != nil) {
				t.Errorf("what nobody needs any more is kept: %+v", r)
			}
		})
	}
}

// An end can be seen for as long as any other, however late it comes, and the time to live never shrinks.
func TestKept(t *testing.T) {
	t.Parallel()
	for age, want := range map[int]time.Duration{0: time.Hour, 30: time.Hour, 45: time.Hour, 50: 65 * time.Minute, 60: 75 * time.Minute, 90: 105 * time.Minute} {
		r := minutes(age)
		r.finish(Completed, noon)
		if got := time.Duration(r.TTL) * time.Millisecond; got != want {
			t.Errorf("ended after %d minutes, its time to live is %v, want %v", age, got, want)
		}
		if kept := r.kept(noon); kept < 15*time.Minute || kept > want+15*time.Minute {
			t.Errorf("ended after %d minutes, it is kept for %v", age, kept)
		}
	}
	if kept := minutes(1000).kept(noon); kept != time.Second { // a store takes zero for ever
		t.Errorf("what should be gone is kept for %v", kept)
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		r    *Record
		want bool
	}{
		"in time":         {minutes(59), false},
		"to the moment":   {minutes(60), true},
		"long ago":        {minutes(600), true},
		"over before":     {minutes(600, func(r *Record) { r.Status = Completed }), false},
		"cancelled":       {minutes(600, func(r *Record) { r.Status = Cancelled }), false},
		"it waits":        {minutes(61, func(r *Record) { r.Status, r.Owner = InputRequired, "" }), true},
		"to be cancelled": {minutes(61, wanted), true},
	} {
		was := tt.r.Status
		if got := tt.r.expired(noon); got != tt.want || got && tt.r.Status != Failed || !got && tt.r.Status != was {
			t.Errorf("%s: %v, and it is %s", name, got, tt.r.Status)
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	state := "kept"
	r := minutes(1)
	r.Round = 3
	r.ask([]Ask{{Key: "a"}, {Key: "b"}, {Key: "a.3"}}, &state, noon)
	if len(r.Asked) != 3 || r.State == nil {
		t.Fatalf("it asks %v", r.Asked)
	}
	say := func(keys ...string) (took, all bool) {
		answers := map[string]json.RawMessage{}
		for _, k := range keys {
			answers[k] = json.RawMessage(`"` + k + `"`)
		}
		return r.answer(answers, noon.Add(time.Second))
	}
	for i, tt := range []struct {
		keys      []string
		took, all bool
	}{
		{nil, false, false},
		{[]string{"a", "a.2", "a.1", "x.3", ""}, false, false},
		{[]string{"a.3", "other"}, true, false},
		{[]string{"a.3"}, false, false},
		{[]string{"b.3", "a.3.3"}, true, true},
		{[]string{"b.3", "a.3.3"}, false, false},
	} {
		before := r.Updated
		took, all := say(tt.keys...)
		if took != tt.took || all != tt.all {
			t.Errorf("%d: %v are taken: %v, all: %v", i, tt.keys, took, all)
		}
		if !took && r.Updated != before {
			t.Errorf("%d: what changes nothing is an update", i)
		}
	}
	want := map[string]json.RawMessage{"a": []byte(`"a.3"`), "b": []byte(`"b.3"`), "a.3": []byte(`"a.3.3"`)}
	if diff := cmp.Diff(want, r.Answers); diff != "" {
		t.Error(diff)
	}
	r.Status = Working
	if took, _ := say("a.3"); took {
		t.Error("a task that works takes answers")
	}
}

// Two requests of a task never have the same key, whatever its tool calls them.
func TestKeysAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, tools := range []string{"", "a", "a.1", "a.1.2", "1", ".1", "a.", "1.1", "a.12"} {
		for round := 1; round <= 30; round++ {
			k := key(tools, round)
			if was, ok := seen[k]; ok {
				t.Errorf("%q is %s and the tool's %q in round %d", k, was, tools, round)
			}
			seen[k] = tools
		}
	}
}

// A writer that meets another one decides anew, by a record that is as it was read.
func TestClone(t *testing.T) {
	t.Parallel()
	r := minutes(1)
	r.ask([]Ask{{Key: "a"}, {Key: "b"}}, nil, noon)
	r.answer(map[string]json.RawMessage{"a.1": []byte(`1`)}, noon)
	c := r.clone()
	c.answer(map[string]json.RawMessage{"b.1": []byte(`2`)}, noon)
	if len(r.Asked) != 1 || len(r.Answers) != 1 {
		t.Errorf("a change of the copy has changed %+v", r)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 600)
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{strings.Repeat("x", 1025), strings.Repeat("x", 1024)},
		{long, strings.Repeat("é", 512)},
		{"x" + long, "x" + strings.Repeat("é", 511)},
		{strings.Repeat("x", 1022) + "世界", strings.Repeat("x", 1022)},
	} {
		if got := shorten(tt.in); got != tt.want {
			t.Errorf("%d bytes become %d, want %d", len(tt.in), len(got), len(tt.want))
		}
	}
}

func TestDetail(t *testing.T) {
	t.Parallel()
	const head = `"createdAt":"2026-11-28T11:50:00.000Z","lastUpdatedAt":"2026-11-28T12:00:00.000Z","ttlMs":3600000,"pollIntervalMs":1000`
	for status, want := range map[Status]string{
		Working:       `{"taskId":"T","status":"working","statusMessage":"<half> of it",` + head + `}`,
		Cancelled:     `{"taskId":"T","status":"cancelled","statusMessage":"<half> of it",` + head + `}`,
		InputRequired: `{"taskId":"T","status":"input_required","statusMessage":"<half> of it",` + head + `,"inputRequests":{"a.1":{"method":"roots/list"},"b\"\\.1":{"method":"x"}}}`,
		Completed:     `{"taskId":"T","status":"completed","statusMessage":"<half> of it",` + head + `,"result":{"n":1.50}}`,
		Failed:        `{"taskId":"T","status":"failed","statusMessage":"no",` + head + `,"error":{"code":7,"message":"no","data":[1.50]}}`,
	} {
		r := minutes(10)
		r.Message = "<half> of it"
		switch status {
		case InputRequired:
			r.ask([]Ask{{Key: `b"\`, Request: []byte(`{"method":"x"}`)}, {Key: "a", Request: []byte(`{"method":"roots/list"}`)}}, nil, noon)
		case Failed:
			r.fail(&wire.Error{Code: 7, Message: "no", Data: []byte(`[1.50]`)}, noon)
		case Cancelled, Completed:
			r.finish(status, noon)
		case Working:
			r.Updated = noon.UnixMilli()
		}
		if got := string(r.AppendDetail(nil, []byte(`{"n":1.50}`))); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", status, got, want)
		}
	}
	r := minutes(10)
	r.Updated = noon.UnixMilli()
	if got := string(r.AppendHandle([]byte("x"))); got != `x{"taskId":"T","status":"working",`+head+`}` {
		t.Errorf("the handle is %s", got)
	}
	// An error whose data cannot be written is an error all the same.
	r.fail(&wire.Error{Code: 7, Message: "no", Data: []byte(`{broken`)}, noon)
	if got := r.AppendDetail(nil, nil); !json.Valid(got) || !strings.Contains(string(got), `"error":{"code":-32603`) {
		t.Errorf("an error that cannot be written: %s", got)
	}
}
