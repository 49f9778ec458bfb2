package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// The chart is well-formed, names every server, and draws a bar for each of its eras.
func TestChart(t *testing.T) {
	t.Parallel()
	rows := []callRow{
		{Server: servers[0].name, Era: client.Sessions, CPU: 20, Ratio: 1, Objects: 50},
		{Server: servers[0].name, Era: client.Modern, CPU: 22, Ratio: 1, Objects: 50},
		{Server: "a <b>", Era: client.Sessions, CPU: 900, Ratio: 45},
	}
	svg := chart(rows)
	bars := 0
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 2+len(rows) { // with those of the legend
		t.Errorf("%d bars", bars)
	}
	if !strings.Contains(svg, "a &lt;b&gt;") {
		t.Error("a server is missing")
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("none have a median")
	}
}

// What the generator reads of a response, in all its shapes.
func TestResult(t *testing.T) {
	t.Parallel()
	const response = `{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"sum":15}}}`
	for body, stream := range map[string]bool{
		response: false,
		"event: message\ndata: " + response + "\n\n":                                                true,
		"id: 1\ndata:\n\ndata: {\"method\":\"notifications/progress\"}\n\ndata: " + response + "\n": true,
	} {
		r := client.Response{Status: 200, Body: []byte(body), Stream: stream}
		result, err := r.Result()
		if err != nil || result.Structured.Sum == nil || *result.Structured.Sum != 15 {
			t.Errorf("%q: %v, %v", body, result, err)
		}
	}
	r := client.Response{Status: 200, Body: []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`)}
	if _, err := r.Result(); err == nil {
		t.Error("an error is no result")
	}
}
