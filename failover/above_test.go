package failover

import "testing"

// R2: the next epoch is above the token's too: a candidate that won it and died before it told anybody has used it up.
func TestDecideAboveTheToken(t *testing.T) {
	s := three(1)
	if e := Decide(s).Epoch; e != 2 {
		t.Fatalf("all are in epoch 1: an ordinary promotion takes epoch %d", e)
	}
	s.Token = Record{Epoch: 7, Holder: "c", Sync: s.Token.Sync, Rev: 7}
	if e := Decide(s).Epoch; e <= 7 {
		t.Fatalf("the token says that c holds epoch 7, which no node has heard of: promotion to %d", e)
	}
}
