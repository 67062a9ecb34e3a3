package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// porter knows ann, who may order. When he sleeps, everybody may.
type porter struct{ asleep bool }

func (p *porter) Asks() bool { return !p.asleep }
func (p *porter) Operator(_ context.Context, name, token, _ string) (bool, error) {
	if name == "ann" && token == "token" {
		return true, nil
	}
	return false, kite.Errorf(kite.Unauthorized, "wrong")
}
func (p *porter) Certified(string) (bool, error) {
	return false, kite.Errorf(kite.Unauthorized, "wrong")
}

// TestSignedByWhoIsKnown puts the name that was proved before the one that was claimed.
func TestSignedByWhoIsKnown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asleep    bool
		by, wants string
	}{
		{false, "", "operator ann"},
		{false, "ann", "operator ann"},
		{false, "bob", "operator ann as bob"},
		{true, "bob", "operator bob"},
		{true, "", "operator ann"},
	} {
		var got kite.Note
		h := guarded(&porter{test.asleep}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var err error
			if got, err = Signed(r, operate.Note{By: test.by}, false); err != nil {
				t.Error(err)
			}
		}))
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/groups/t/g/pause", nil)
		r.SetBasicAuth("ann", "token")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got.By != test.wants {
			t.Errorf("%+v: by %q", test, got.By)
		}
	}
}
