// What Linux has and Swift's Glibc does not show.
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

// Has the disk begin to write a range of a file, and does not wait: sync_file_range(2) with SYNC_FILE_RANGE_WRITE, of which nothing becomes durable.
static inline void clinux_begin_writing(int file, off_t offset, off_t count) { (void)syscall(SYS_sync_file_range, file, offset, count, 2u); }
