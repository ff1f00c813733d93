# Reads files, for people who want to see how they differ. Writes nothing. Its variables and what it reads
# are those of fetch.sh.

sub fetch {
    beat($in{patience});
    my @lines = split /\n/, take($in{files}), -1;
    for (my $index = 0; @lines >= 2; $index++) {
        my ($size, $path) = splice @lines, 0, 2;
        # One byte more tells that it is larger now.
        my ($folder, $name) = split_off($path);
        my ($bytes, $why) = length walk($folder) ? (undef, 'gone') : start_of($name, $size + 1);
        if (defined $bytes) {
            mark('file', $index);
            say_text($bytes);
        }
        else { mark('none', $index, $why) }
    }
    chdir;
    return 'ok';
}

# So much of a file at most; undef and the reason where there is none, or where it may not be read. A link
# is not followed, and a pipe that has come into its place is not waited for.
sub start_of {
    my ($path, $most) = @_;
    sysopen my $file, $path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK
        or return (undef, $!{EACCES} || $!{EPERM} ? 'closed' : 'gone');
    -f $file or return (undef, 'gone');
    my $bytes = q();
    while (length $bytes < $most) {
        my $count = sysread $file, $bytes, $most - length $bytes, length $bytes;
        if (!defined $count) { next if $!{EINTR}; return (undef, 'closed') }
        last unless $count;
    }
    return $bytes;
}
