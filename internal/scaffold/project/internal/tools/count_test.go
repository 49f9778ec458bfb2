package tools

import "testing"

func TestCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text              string
		words, characters int
	}{
		{"", 0, 0},
		{"  \n", 0, 3},
		{"one", 1, 3},
		{"one\ttwo\n three ", 3, 15},
		{"naïve café", 2, 10},
	} {
		if got := count(tt.text); got.Words != tt.words || got.Characters != tt.characters {
			t.Errorf("count(%q) = %+v, want %d words, %d characters", tt.text, got, tt.words, tt.characters)
		}
	}
}
