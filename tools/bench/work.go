package main

import (
	"bytes"
	"math/rand/v2"
)

const keyBytes = 16

// work is the endless series of keys and values of one client; the same seed gives the same series to every system.
type work struct {
	rng        *rand.Rand
	keys       int
	key, value []byte // of the present request
}

func newWork(seed uint64, keys, valueBytes int) *work {
	w := &work{rng: rand.New(rand.NewPCG(seed, 1)), keys: keys, key: bytes.Repeat([]byte("0"), keyBytes), value: bytes.Repeat([]byte("x"), valueBytes)}
	copy(w.key, "key:")
	return w
}

// next is another key and another value: the first half of the value is random, the rest compresses.
func (w *work) next() {
	w.setKey(w.rng.IntN(w.keys))
	w.setValue()
}

func (w *work) setValue() {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	for i, half := 0, len(w.value)/2; i < half; {
		for bits, n := w.rng.Uint64(), 0; n < 10 && i < half; n++ {
			w.value[i] = digits[bits&63]
			bits >>= 6
			i++
		}
	}
}

func (w *work) setKey(n int) {
	for i := keyBytes - 1; i >= 4; i-- {
		w.key[i] = byte('0' + n%10)
		n /= 10
	}
}
