package herocoordinator

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	acceptSuffix    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	maxMessageBytes = 256 << 20
	maxControlBytes = 125
	maxSilence      = 60 * time.Second // without a byte; after half of it the coordinator is pinged
	goodbyeTime     = time.Second
	chunkBytes      = 64 << 10 // of a frame, which have to be accepted within maxSilence

	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// ErrClosed is what calls fail with once the connection is gone; what was under way may have been applied.
var ErrClosed = errors.New("herocoordinator: the connection is closed")

// Options of a connection.
type Options struct {
	// Token is shown in the handshake, where callers log in.
	Token string
	// TLS is for wss://.
	TLS *tls.Config
	// OnNotification is called for each notification, in order, by the goroutine that reads. While it runs no reply is
	// read, so it must not wait for a call. DecodeNotification gives params their type.
	OnNotification func(method string, params json.RawMessage)

	silence time.Duration // in place of maxSilence
}

// Client makes calls over one WebSocket. Any number of goroutines may use it. It is not connected again when the
// connection is lost: Done tells.
type Client struct {
	API
	conn           net.Conn
	silence        time.Duration
	pinger         *time.Timer
	onNotification func(method string, params json.RawMessage)
	writing        sync.Mutex
	answersPing    atomic.Bool
	mutex          sync.Mutex
	waiting        map[uint64]chan reply
	lastID         uint64
	done           chan struct{}
	err            error
}

// Dial connects to ws://HOST:PORT or wss://HOST:PORT; the context is for connecting alone.
func Dial(ctx context.Context, address string, options Options) (*Client, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, target, options.TLS)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	from := &source{conn: conn}
	reader, err := shakeHands(conn, from, target, options.Token)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	client := &Client{
		conn:           conn,
		silence:        cmp.Or(options.silence, maxSilence),
		onNotification: options.OnNotification,
		waiting:        map[uint64]chan reply{},
		done:           make(chan struct{}),
	}
	client.API.call = client.Call
	client.pinger = time.AfterFunc(client.silence/2, func() { _ = client.write(opPing, nil) })
	from.silence, from.heard = client.silence, func() { client.pinger.Reset(client.silence / 2) }
	go client.read(reader)
	return client, nil
}

// source is where a connection is read: each time something has to come within so long, once that is set.
type source struct {
	conn    net.Conn
	silence time.Duration
	heard   func()
}

func (from *source) Read(into []byte) (int, error) {
	if from.silence == 0 {
		return from.conn.Read(into)
	}
	_ = from.conn.SetReadDeadline(time.Now().Add(from.silence))
	size, err := from.conn.Read(into)
	if err == nil {
		from.heard()
	}
	return size, err
}

func connect(ctx context.Context, target *url.URL, config *tls.Config) (net.Conn, error) {
	switch target.Scheme {
	case "ws":
		return (&net.Dialer{}).DialContext(ctx, "tcp", withPort(target, "9653"))
	case "wss":
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", withPort(target, "9653"))
	}
	return nil, fmt.Errorf("a WebSocket's URL begins with ws:// or wss://, not %s://", target.Scheme)
}

func withPort(target *url.URL, port string) string {
	if target.Port() != "" {
		port = target.Port()
	}
	return net.JoinHostPort(target.Hostname(), port)
}

func shakeHands(conn net.Conn, from io.Reader, target *url.URL, token string) (*bufio.Reader, error) {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	key := base64.StdEncoding.EncodeToString(nonce)
	head := &http.Request{Method: http.MethodGet, URL: target, Host: withPort(target, "9653"), Header: http.Header{
		"Upgrade":                {"websocket"},
		"Connection":             {"Upgrade"},
		"Sec-Websocket-Key":      {key},
		"Sec-Websocket-Version":  {"13"},
		"Sec-Websocket-Protocol": {"herocoordinator.v1"},
	}}
	if token != "" {
		head.Header.Set("Authorization", "Bearer "+token)
	}
	if err := head.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(from, 64<<10)
	response, err := http.ReadResponse(reader, head)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(key + acceptSuffix))
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("%s answered %s", target.Redacted(), response.Status)
	}
	if response.Header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("what listens at %s is no WebSocket server", target.Redacted())
	}
	return reader, nil
}

// Done is closed when the connection is gone; Err says why.
func (client *Client) Done() <-chan struct{} {
	return client.done
}

// Err is why the connection is gone; nil while it is there.
func (client *Client) Err() error {
	client.mutex.Lock()
	defer client.mutex.Unlock()
	return client.err
}

// Close ends the connection. Calls under way fail with ErrClosed.
func (client *Client) Close() error {
	client.sayGoodbye([]byte{0x03, 0xe8})
	client.end(ErrClosed)
	return nil
}

func (client *Client) sayGoodbye(payload []byte) {
	said := make(chan struct{})
	go func() {
		_ = client.write(opClose, payload)
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(goodbyeTime): // it reads nothing
	}
}

func (client *Client) end(why error) {
	client.mutex.Lock()
	defer client.mutex.Unlock()
	if client.err != nil {
		return
	}
	client.err = why
	client.pinger.Stop()
	client.conn.Close()
	close(client.done)
}

// Call calls any method; its result is decoded into result. Given up by its context, it may still be carried out.
func (client *Client) Call(ctx context.Context, method string, params, result any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	answered := make(chan reply, 1)
	client.mutex.Lock()
	client.lastID++
	id := client.lastID
	client.waiting[id] = answered
	client.mutex.Unlock()
	defer func() {
		client.mutex.Lock()
		delete(client.waiting, id)
		client.mutex.Unlock()
	}()
	text, err := json.Marshal(request{"2.0", id, method, params})
	if err != nil {
		return err
	}
	go func() { _ = client.write(opText, text) }() // it waits for whoever writes, and for who does not read
	select {
	case answer := <-answered:
		return answer.into(result)
	case <-ctx.Done():
		return ctx.Err()
	case <-client.done:
	}
	select {
	case answer := <-answered: // the last words of one that closes
		return answer.into(result)
	default:
		return errors.Join(ErrClosed, client.Err())
	}
}

// write sends a frame. One that cannot be sent as a whole ends the connection: nothing may follow its part.
func (client *Client) write(kind byte, payload []byte) error {
	head := []byte{0x80 | kind}
	switch size := len(payload); {
	case size <= maxControlBytes:
		head = append(head, 0x80|byte(size))
	case size <= 0xffff:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(size))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(size))
	}
	var mask [4]byte
	_, _ = rand.Read(mask[:])
	frame := append(append(head, mask[:]...), payload...)
	body := frame[len(frame)-len(payload):]
	for i := range body {
		body[i] ^= mask[i&3]
	}
	client.writing.Lock()
	defer client.writing.Unlock()
	for len(frame) > 0 {
		_ = client.conn.SetWriteDeadline(time.Now().Add(client.silence))
		size, err := client.conn.Write(frame[:min(len(frame), chunkBytes)])
		if err != nil {
			client.end(err)
			return err
		}
		frame = frame[size:]
	}
	return nil
}

// pong answers a ping, unless the answer to one before is still on its way. The reader does not wait for it: while the
// coordinator waits for us to read, it need not read itself.
func (client *Client) pong(payload []byte) {
	if client.answersPing.CompareAndSwap(false, true) {
		go func() {
			defer client.answersPing.Store(false)
			_ = client.write(opPong, payload)
		}()
	}
}

func (client *Client) read(reader *bufio.Reader) {
	for {
		message, err := client.next(reader)
		if err != nil {
			client.end(err)
			return
		}
		answers, err := replies(message)
		if err != nil {
			client.end(err)
			return
		}
		for _, answer := range answers {
			client.received(answer)
		}
	}
}

func (client *Client) received(answer reply) {
	if answer.Method != "" {
		if client.onNotification != nil {
			client.onNotification(answer.Method, answer.Params)
		}
		return
	}
	client.mutex.Lock()
	defer client.mutex.Unlock()
	if answer.ID == nil { // an error about a whole message, it is not said which
		for id, waiting := range client.waiting {
			delete(client.waiting, id)
			waiting <- answer
		}
		return
	}
	if waiting, ok := client.waiting[*answer.ID]; ok {
		delete(client.waiting, *answer.ID)
		waiting <- answer
	}
}

// next is the next message; control frames are dealt with.
func (client *Client) next(reader *bufio.Reader) ([]byte, error) {
	var message []byte
	begun := false
	for {
		kind, final, payload, err := readFrame(reader, maxMessageBytes-len(message))
		if err != nil {
			return nil, err
		}
		switch kind {
		case opPing:
			client.pong(payload)
			continue
		case opPong:
			continue
		case opClose:
			client.sayGoodbye(payload[:min(len(payload), 2)])
			return nil, closing(payload)
		case opText, opBinary:
			if begun {
				return nil, errors.New("a message inside another")
			}
		case opContinuation:
			if !begun {
				return nil, errors.New("a continuation of nothing")
			}
		default:
			return nil, fmt.Errorf("a frame of the unknown kind %d", kind)
		}
		begun = true
		message = append(message, payload...)
		if final {
			return message, nil
		}
	}
}

func closing(payload []byte) error {
	if len(payload) < 2 {
		return ErrClosed
	}
	reason := strings.ToValidUTF8(string(payload[2:]), "?")
	return fmt.Errorf("closed with %d %s", binary.BigEndian.Uint16(payload), reason)
}

func readFrame(reader *bufio.Reader, most int) (kind byte, final bool, payload []byte, err error) {
	var head [8]byte
	if _, err = io.ReadFull(reader, head[:2]); err != nil {
		return
	}
	kind, final = head[0]&0x0f, head[0]&0x80 != 0
	if head[0]&0x70 != 0 || head[1]&0x80 != 0 {
		return 0, false, nil, errors.New("a frame with bits no server may set")
	}
	size := uint64(head[1])
	switch size {
	case 126:
		if _, err = io.ReadFull(reader, head[:2]); err != nil {
			return
		}
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err = io.ReadFull(reader, head[:8]); err != nil {
			return
		}
		size = binary.BigEndian.Uint64(head[:8])
	}
	if size > uint64(most) || (kind >= opClose && (size > maxControlBytes || !final)) {
		return 0, false, nil, errors.New("a frame that is too long")
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(reader, payload)
	return
}
