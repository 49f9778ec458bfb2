package main

import "slices"

// quantile returns the value below which the share q of the values lies.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func medianOf[T any](values []T, f func(T) float64) float64 {
	numbers := make([]float64, len(values))
	for i, v := range values {
		numbers[i] = f(v)
	}
	return quantile(numbers, 0.5)
}
