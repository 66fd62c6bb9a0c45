// The floor: one sendto and one recv per frame, one socket for all channels, nothing secured, no Python.
//
// udp ROLE CHANNELS SECS PORT: the same channels, frames, slots and report as channel.py, in C. The far end binds PORT on
// 127.0.0.1, the near end on 127.0.0.2.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_BYTES = 160, SLOTS = 20, SLOT_NS = 1000000, LATE_NS = 20000000, DRAIN_NS = 600000000 };

struct __attribute__((packed)) frame {
  uint8_t toc, reserved[3];
  uint32_t channel;
  uint64_t due_ns, sent_ns;
  uint8_t padding[FRAME_BYTES - 24];
};

static int channels, sock;
static int64_t *took_ns;
static long heard, late, sent, room;
static struct sockaddr_in peer;

static int64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address(int host, int port) {
  struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(port)};
  made.sin_addr.s_addr = htonl(0x7f000000 + host);
  return made;
}

static void open_socket(int is_far, int port) {
  int bytes = 4 << 20;
  struct sockaddr_in mine = address(is_far ? 1 : 2, port);
  peer = address(is_far ? 2 : 1, port);
  if ((sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) < 0) die("socket");
  setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  if (bind(sock, (struct sockaddr *)&mine, sizeof mine)) die("bind");
}

static void send_slot(int slot, int64_t due_ns) {
  static struct frame out = {.toc = 0xf8};
  for (int channel = slot; channel < channels; channel += SLOTS, sent++) {
    out.channel = channel;
    out.due_ns = due_ns;
    out.sent_ns = now_ns();
    sendto(sock, &out, sizeof out, 0, (struct sockaddr *)&peer, sizeof peer);
  }
}

static void receive(void) {
  struct frame in;
  while (recv(sock, &in, sizeof in, 0) == sizeof in) {
    int64_t at = now_ns();
    late += at - (int64_t)in.due_ns > LATE_NS;
    if (heard < room) took_ns[heard++] = at - (int64_t)in.sent_ns;
  }
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double cpu_us(const struct rusage *used) {
  return 1e6 * (used->ru_utime.tv_sec + used->ru_stime.tv_sec) + used->ru_utime.tv_usec + used->ru_stime.tv_usec;
}

static void run(int64_t from_ns, int64_t to_ns) {
  int64_t due_ns = from_ns, until_ns = to_ns + DRAIN_NS, at;
  int slot = 0;
  while ((at = now_ns()) < until_ns) {
    if (due_ns < to_ns && at >= due_ns) {
      send_slot(slot, due_ns);
      slot = (slot + 1) % SLOTS;
      due_ns += SLOT_NS;
      receive();
      continue;
    }
    int64_t left = (due_ns < to_ns ? due_ns : until_ns) - at;
    struct timespec wait = {left / 1000000000, left % 1000000000};
    struct pollfd readable = {sock, POLLIN, 0};
    if (ppoll(&readable, 1, &wait, NULL) > 0) receive();
  }
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  channels = atoi(argv[2]);
  double secs = atof(argv[3]);
  alarm(60 + 4 * (unsigned)secs);
  open_socket(!strcmp(argv[1], "far"), atoi(argv[4]));
  room = (long)channels * 50 * (secs + 1);
  if (!(took_ns = malloc(room * sizeof *took_ns))) die("malloc");
  memset(took_ns, 0, room * sizeof *took_ns);
  printf(strcmp(argv[1], "far") ? "@{\"ready\": true}\n" : "@{\"listening\": true}\n@{\"ready\": true}\n");
  fflush(stdout);
  long long from_ns;
  if (scanf(" {\"from_ns\": %lld}", &from_ns) != 1) return 1;
  struct rusage before, after;
  while (now_ns() < from_ns) poll(NULL, 0, 1);
  getrusage(RUSAGE_SELF, &before);
  run(from_ns, from_ns + (int64_t)(secs * 1e9));
  getrusage(RUSAGE_SELF, &after);
  qsort(took_ns, heard, sizeof *took_ns, ascending);
  double p50 = heard ? took_ns[heard / 2] / 1e3 : -1, p99 = heard ? took_ns[heard * 99 / 100] / 1e3 : -1;
  printf("@{\"sent\": %ld, \"heard\": %ld, \"late\": %ld, \"cpu_us\": %f, \"sleeps\": %ld, \"p50_us\": %f, \"p99_us\": %f}\n",
         sent, heard, late, cpu_us(&after) - cpu_us(&before), after.ru_nvcsw - before.ru_nvcsw, p50, p99);
  fflush(stdout);
  getchar(), getchar();
  return 0;
}
