package memory_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/memory"
)

var (
	ctx   = context.Background()
	event = bytes.Repeat([]byte("e"), 256)
)

func filled(b *testing.B) *memory.Memory {
	m := memory.New()
	b.Cleanup(func() { _ = m.Close() })
	for i := range 10_000 {
		check(b, m.Put(ctx, strconv.Itoa(i), event, time.Hour))
	}
	b.ReportAllocs()
	return m
}

func BenchmarkGet(b *testing.B) {
	m := filled(b)
	for b.Loop() {
		_, err := m.Get(ctx, "777")
		check(b, err)
	}
}

func BenchmarkGetParallel(b *testing.B) {
	m := filled(b)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := m.Get(ctx, "777")
			check(b, err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	m := filled(b)
	for b.Loop() {
		check(b, m.Put(ctx, "777", event, time.Hour))
	}
}

func BenchmarkTouch(b *testing.B) {
	m := filled(b)
	for b.Loop() {
		check(b, m.Touch(ctx, "777", time.Hour))
	}
}

func BenchmarkAppend(b *testing.B) {
	m := filled(b)
	bounds := store.Bounds{Entries: 1000, TTL: time.Hour}
	entries := [][]byte{event}
	var at int64
	for b.Loop() {
		check(b, m.Append(ctx, "log", at, entries, bounds))
		at++
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	m := filled(b)
	bounds := store.Bounds{Entries: 1000, TTL: time.Hour}
	entries := [][]byte{event}
	logs := make(chan string, 1024)
	for i := range cap(logs) {
		logs <- strconv.Itoa(i)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		log, at := <-logs, int64(0)
		for pb.Next() {
			check(b, m.Append(ctx, log, at, entries, bounds))
			at++
		}
		check(b, m.Drop(ctx, log))
		logs <- log
	})
}

func BenchmarkRead(b *testing.B) {
	m := filled(b)
	for i := range int64(1000) {
		check(b, m.Append(ctx, "log", i, [][]byte{event}, store.Bounds{}))
	}
	for b.Loop() {
		_, _, err := m.Read(ctx, "log", 990, 10)
		check(b, err)
	}
}

func BenchmarkPublish(b *testing.B) {
	m := filled(b)
	sub, err := m.Subscribe(ctx, "t")
	check(b, err)
	for b.Loop() {
		_, err := m.Publish(ctx, "t", nil)
		check(b, err)
		<-sub.C()
	}
}

func BenchmarkSubscribe(b *testing.B) {
	m := filled(b)
	for b.Loop() {
		sub, err := m.Subscribe(ctx, "t")
		check(b, err)
		check(b, sub.Close())
	}
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}
