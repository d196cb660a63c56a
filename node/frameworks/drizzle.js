'use strict';

const { usage } = require('../src/errors.js');
const { Context, Sealer, text } = require('../src/vault.js');

function sealedText(sealer, context) {
  if (!(context instanceof Context)) throw usage('the context must be a Context');
  const own = () => (sealer instanceof Sealer ? sealer : sealer());
  return {
    dataType: () => 'text',
    toDriver: (secret) => own().seal(context, secret),
    fromDriver: (token) => text(own().open(context, token)),
  };
}

module.exports = { sealedText };
