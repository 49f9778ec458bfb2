package typed

import (
	"encoding/json"
	"reflect"
	"testing"
)

// BenchmarkPlan decodes and encodes a flat and a nested value, and the same with encoding/json, which checks nothing.
func BenchmarkPlan(b *testing.B) {
	b.Run("flat", func(b *testing.B) { benchPlan[point](b, `{"x":3,"y":1.5}`) })
	b.Run("nested", func(b *testing.B) {
		benchPlan[everything](b, `{"limit":3,"name":"n","on":true,"when":"2026-07-28T10:00:00Z","point":{"x":1},"all":[{"x":1},{"x":2,"y":0.5}],"dict":{"a":{"x":4}}}`)
	})
}

func benchPlan[T any](b *testing.B, text string) {
	in, out := compile(inferred[T](), reflect.TypeFor[T](), input), compile(inferred[T](), reflect.TypeFor[T](), output)
	if in == nil || out == nil {
		b.Fatal("no plan")
	}
	data := []byte(text)
	var v T
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v = *new(T)
			if !in.Decode(data, &v) {
				b.Fatal("not decoded")
			}
		}
	})
	b.Run("decode/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v = *new(T)
			if err := json.Unmarshal(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	var buf []byte
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var ok bool
			if buf, ok = out.Append(buf[:0], &v); !ok {
				b.Fatal("not encoded")
			}
		}
	})
	b.Run("encode/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(&v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
