package herocoordinator

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const quick = 400 * time.Millisecond

// peer is a coordinator's end of a connection, which behaves as a test has it.
type peer struct {
	net.Conn
	reader *bufio.Reader
}

// served has each connection behave so, and is its URL.
func served(t *testing.T, behave func(peer)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				request, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				sum := sha1.Sum([]byte(request.Header.Get("Sec-Websocket-Key") + acceptSuffix))
				fmt.Fprintf(conn, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
					"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
				behave(peer{conn, reader})
			}()
		}
	}()
	return "ws://" + listener.Addr().String()
}

func (p peer) send(kind byte, payload string) {
	head := []byte{0x80 | kind, 126}
	_, _ = p.Write(append(binary.BigEndian.AppendUint16(head, uint16(len(payload))), payload...))
}

// next is the kind of the client's next frame; 0 at its end.
func (p peer) next() byte {
	var head [2]byte
	if _, err := io.ReadFull(p.reader, head[:]); err != nil {
		return 0
	}
	size := int64(head[1] & 0x7f)
	if size > maxControlBytes {
		long := make([]byte, map[int64]int{126: 2, 127: 8}[size])
		if _, err := io.ReadFull(p.reader, long); err != nil {
			return 0
		}
		size = 0
		for _, digit := range long {
			size = size<<8 | int64(digit)
		}
	}
	if _, err := io.CopyN(io.Discard, p.reader, size+4); err != nil {
		return 0
	}
	return head[0] & 0x0f
}

func dialed(t *testing.T, behave func(peer), options Options) *Client {
	t.Helper()
	client, err := Dial(context.Background(), served(t, behave), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestTheLastRepliesOfOneThatClosesAreReturned(t *testing.T) {
	for range 100 {
		client := dialed(t, func(p peer) {
			p.next()
			p.send(opText, `{"jsonrpc":"2.0","id":1,"result":7}`)
			p.send(opClose, "\x03\xe9stopping")
		}, Options{})
		var result int
		if err := client.Call(context.Background(), "x", nil, &result); err != nil || result != 7 {
			t.Fatal(result, err)
		}
		<-client.Done()
		if !strings.Contains(client.Err().Error(), "1001 stopping") {
			t.Fatal(client.Err())
		}
	}
}

func TestACallIsGivenUpThoughNobodyReadsIt(t *testing.T) {
	silent := make(chan struct{})
	defer close(silent)
	client := dialed(t, func(peer) { <-silent }, Options{})
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), quick)
		defer cancel()
		err := client.Call(ctx, "x", strings.Repeat("x", 32<<20), nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	client.Close()
	if err := client.Call(context.Background(), "x", nil, nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestACallThatIsGivenUpBeforehandIsNotSent(t *testing.T) {
	kinds := make(chan byte, 1)
	client := dialed(t, func(p peer) { kinds <- p.next() }, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := client.Call(ctx, "x", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	client.Close()
	if kind := <-kinds; kind != opClose {
		t.Fatal(kind)
	}
}

func TestAPingIsAnsweredAndRepliesAreReadWhileNobodyReadsUs(t *testing.T) {
	read := make(chan struct{})
	client := dialed(t, func(p peer) {
		_, _ = p.reader.Peek(1) // of the call, the rest of which is left where it is
		p.send(opPing, "")
		p.send(opPing, "")
		p.send(opText, `{"jsonrpc":"2.0","id":1,"result":7}`)
		<-read
		for p.next() != 0 {
		}
	}, Options{})
	var result int
	if err := client.Call(context.Background(), "x", strings.Repeat("x", 32<<20), &result); err != nil || result != 7 {
		t.Fatal(result, err)
	}
	close(read)
}

func TestOneThatOnlyAnswersPingsIsThere(t *testing.T) {
	client := dialed(t, func(p peer) {
		for kind := p.next(); kind != 0; kind = p.next() {
			if kind == opPing {
				p.send(opPong, "")
			} else if kind == opText {
				p.send(opText, `{"jsonrpc":"2.0","id":1,"result":7}`)
			}
		}
	}, Options{silence: quick})
	select {
	case <-client.Done():
		t.Fatal(client.Err())
	case <-time.After(4 * quick):
	}
	if err := client.Call(context.Background(), "x", nil, new(int)); err != nil {
		t.Fatal(err)
	}
}

func TestOneThatIsOutOfReachIsGone(t *testing.T) {
	gone := make(chan struct{})
	defer close(gone)
	client := dialed(t, func(peer) { <-gone }, Options{silence: quick})
	if err := client.Call(context.Background(), "x", nil, nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestALongMessageMayTakeItsTime(t *testing.T) {
	client := dialed(t, func(p peer) {
		p.next()
		text := `{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("x", 2000) + `"}`
		head := binary.BigEndian.AppendUint16([]byte{0x80 | opText, 126}, uint16(len(text)))
		_, _ = p.Write(head)
		for at := 0; at < len(text); at += 200 {
			time.Sleep(quick / 4)
			_, _ = p.Write([]byte(text[at:min(at+200, len(text))]))
		}
		p.next()
	}, Options{silence: quick})
	var result string
	if err := client.Call(context.Background(), "x", nil, &result); err != nil || len(result) != 2000 {
		t.Fatal(len(result), err)
	}
}

func TestRepliesOfABatchComeInAnyOrder(t *testing.T) {
	client := dialed(t, func(p peer) {
		p.next()
		p.next()
		p.send(opText, `[{"jsonrpc":"2.0","id":9,"result":0},{"jsonrpc":"2.0","id":2,"result":2},`+
			`{"jsonrpc":"2.0","id":1,"result":1},{"jsonrpc":"2.0","id":1,"result":0}]`)
		p.next()
	}, Options{})
	results := make(chan int, 2)
	for range 2 {
		go func() {
			var result int
			if err := client.Call(context.Background(), "x", nil, &result); err != nil {
				t.Error(err)
			}
			results <- result
		}()
	}
	if sum := <-results + <-results; sum != 3 {
		t.Fatal(sum)
	}
}
