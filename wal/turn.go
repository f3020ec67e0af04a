package wal

// turn is a mutex for what is held while a disk is waited for. It is a channel because testing/synctest counts who waits for a channel as waiting: simulated time goes on
// while a simulated disk is slow, and with a sync.Mutex it would stand still for good.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// Lock waits until nobody else has the turn.
func (t turn) Lock() { t <- struct{}{} }

// Unlock gives the turn back.
func (t turn) Unlock() { <-t }
